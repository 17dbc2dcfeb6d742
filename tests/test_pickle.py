"""Every exception and public type survives pickle, copy, a process pool and Celery with all that it holds."""

from __future__ import annotations

import copy
import importlib
import multiprocessing
import pickle
import pkgutil
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import django_site  # noqa: F401 - configures Django
import pytest
from celery import Celery
from celery.backends.base import Backend
from celery.utils.serialization import get_pickleable_exception
from waiting import PATIENCE_SECONDS

import insend_relay.console.commands
import insend_relay.console.sandbox
import insend_relay.operations
import insend_relay.outbox
import insend_relay.producers
import insend_relay.spool
import insend_relay.worker
from insend_relay.outbox.errors import (
    InvalidEvent,
    NotAccepted,
    OutboxUnreachable,
    RelayError,
    SettingsError,
    forget_frames,
)
from insend_relay.outbox.settings import Settings
from insend_relay.producers import ERASE, AsyncInSend, InSend, Receipt, django
from insend_relay.producers.testing import SentEvent, recording
from insend_relay.producers.validation import Event
from insend_relay.producers.visitor import Visitor
from insend_relay.worker.outcome import Outcome
from insend_relay.worker.policy import NotDelivered

PACKAGES = (
    insend_relay.producers,
    insend_relay.outbox,
    insend_relay.spool,
    insend_relay.operations,
    insend_relay.worker,
    insend_relay.console.commands,
    insend_relay.console.sandbox,
)
FAULTS = (("properties.items[1].qnt", "missing"), ("url", "must be a full address"))
ACCOUNT: dict[str, Any] = {
    "app_key": "test-app-key",
    "domain": "shop.example.com",
    "redis_url": "redis://127.0.0.1:1/0",
}
ARGUMENTS: dict[str, tuple[Any, ...]] = {  # of the exceptions that take more than a text
    "SettingsError": (("INSEND_DOMAIN is not set", "INSEND_POOL: must be one of prefork, threads, gevent"),),
    "InvalidEvent": (FAULTS,),
    "NotAccepted": ("the event was not kept", True),
    "OutboxUnreachable": ("Redis did not answer", True),
    "NotDelivered": (Outcome("answered", 503),),
    "Refused": (("path", "problem"), ("", "another")),
}


def pickled(protocol: int) -> Callable[[Any], Any]:
    """There and back by one protocol."""
    return lambda value: pickle.loads(pickle.dumps(value, protocol))  # noqa: S301 - our own


WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {protocol}": pickled(protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)},
}


def exceptions() -> list[type[BaseException]]:
    """Every exception that a module of the four packages defines."""
    found: set[type[BaseException]] = set()
    for package in PACKAGES:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.endswith((".apps", ".__main__")):
                continue  # needs Django's settings, or runs
            members = vars(importlib.import_module(module.name)).values()
            found |= {
                member
                for member in members
                if issubclass(type(member), type)
                and issubclass(member, BaseException)
                and member.__module__.startswith("insend_relay.")
            }
    return sorted(found, key=lambda kind: f"{kind.__module__}.{kind.__qualname__}")


def example(kind: type[BaseException]) -> BaseException:
    return kind(*ARGUMENTS.get(kind.__name__, ("a text",)))


def held(error: BaseException) -> tuple[Any, ...]:
    return type(error), str(error), error.args, vars(error)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", exceptions(), ids=lambda kind: str(kind.__name__))
def test_an_exception_survives(kind: type[BaseException], way: str) -> None:
    error = example(kind)
    assert held(WAYS[way](error)) == held(error)


def test_the_walk_finds_the_whole_tree_and_those_outside_of_it() -> None:
    def below(kind: type[BaseException]) -> Iterator[type[BaseException]]:
        for each in kind.__subclasses__():
            yield each
            yield from below(each)

    found = set(exceptions())
    assert found > {kind for kind in below(RelayError) if kind.__module__.startswith("insend_relay.")}
    assert {"Refused", "GivenUp", "NotARecord"} <= {kind.__name__ for kind in found}


def test_the_texts_are_as_before() -> None:
    assert str(InvalidEvent(FAULTS)) == "properties.items[1].qnt: missing; url: must be a full address"
    assert str(SettingsError(["one", "two"])) == "one; two"
    assert str(NotAccepted("not kept", unknown=True)) == "not kept"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "value",
    [
        Receipt(uuid.UUID(int=1), "redis", confirmed=False),
        Settings(app_key="key", oversize="trim"),
        Event("link", {"a": ERASE}, None, None, Visitor("42", url="https://shop.example.com/")),
        Visitor("42", "g"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_public_type_survives(value: Any, way: str) -> None:
    again = WAYS[way](value)
    assert (again, type(again)) == (value, type(value))


@pytest.mark.parametrize("way", WAYS)
def test_a_recorded_event_survives(way: str) -> None:
    with recording() as events:
        InSend(**ACCOUNT).link(visitor_uid=42)
    (event,) = events
    assert isinstance(event, SentEvent)
    assert WAYS[way](event) == event


@pytest.mark.parametrize("way", WAYS)
def test_erase_is_the_same_object_afterwards(way: str) -> None:
    assert WAYS[way](ERASE) is ERASE
    assert WAYS[way]({"phone": ERASE})["phone"] is ERASE


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [InSend, AsyncInSend])
def test_an_insend_survives_as_one_of_the_same_settings(kind: type[Any], way: str) -> None:
    insend = kind(**ACCOUNT)
    again = WAYS[way](insend)
    assert (type(again), again.settings) == (kind, insend.settings)
    assert again is not insend


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("one", [django.insend, django.ainsend])
def test_djangos_insend_is_the_one_of_its_process(one: Any, way: str) -> None:
    assert WAYS[way](one) is one
    call = WAYS[way](one.purchase)  # as a job for a process pool or a queue
    assert (call.__self__, call.__name__) == (one, "purchase")


def refuse(insend: InSend) -> None:
    """What a job in a process pool may do."""
    insend.purchase(order_id=None, revenue=1, visitor_uid=42)  # type: ignore[arg-type]


def not_kept(insend: InSend) -> None:
    """As ``refuse``, without a Redis."""
    insend.link(visitor_uid=42)


def test_a_process_pool_brings_back_exceptions_with_their_attributes() -> None:
    insend = InSend(**ACCOUNT)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        with pytest.raises(InvalidEvent) as invalid:
            pool.submit(refuse, insend).result(timeout=PATIENCE_SECONDS)
        assert invalid.value.faults == (("properties.order_id", "missing"),)
        with pytest.raises(NotAccepted) as refused:
            pool.submit(not_kept, insend).result(timeout=PATIENCE_SECONDS)
        assert refused.value.unknown is False
        assert pool.submit(str, "the pool lives").result(timeout=PATIENCE_SECONDS) == "the pool lives"


@pytest.mark.parametrize("serializer", ["json", "pickle"])
@pytest.mark.parametrize(
    "error",
    [
        InvalidEvent(FAULTS),
        SettingsError(["one", "two"]),
        NotAccepted("not kept", unknown=True),
        OutboxUnreachable("no answer", unknown=True),
    ],
    ids=lambda error: type(error).__name__,
)
def test_celery_stores_an_exception_with_its_attributes(error: RelayError, serializer: str) -> None:
    with Celery(set_as_current=False) as app:
        backend = Backend(app, serializer=serializer, accept=[serializer])
        stored = backend.decode(backend.encode(backend.prepare_exception(error)))
        assert held(backend.exception_to_python(stored)) == held(error)


def test_celery_pickles_an_exception_as_it_is() -> None:
    error = InvalidEvent(FAULTS)
    assert get_pickleable_exception(error) is error


def test_an_error_forgets_its_frames_and_those_of_its_causes() -> None:
    def fail() -> None:
        try:
            Path("/no/such/file").read_text(encoding="utf-8")
        except OSError as error:
            raise OutboxUnreachable("outer") from error

    with pytest.raises(OutboxUnreachable) as raised:
        fail()
    forget_frames(raised.value)
    assert raised.value.__traceback__ is None
    assert raised.value.__cause__ is not None
    assert raised.value.__cause__.__traceback__ is None


def test_the_tree_in_the_docstring_is_complete() -> None:
    text = Path(insend_relay.outbox.errors.__file__).read_text(encoding="utf-8").split('"""')[1]
    mine = [kind.__name__ for kind in exceptions() if kind.__module__ == "insend_relay.outbox.errors"]
    assert [name for name in mine if not name.startswith("_") and name not in text] == []
    assert NotDelivered.__name__ not in text
