"""What an error reporter records of a call: the local variables of our frames show nothing personal."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

import django_site  # noqa: F401 - configures Django
import pytest
from django.db import transaction
from django.test import override_settings
from flask import Flask
from flask_account import account

import insend_relay.operations
import insend_relay.outbox
import insend_relay.producers
import insend_relay.spool
from insend_relay.outbox.entry import Entry, InvalidEntry
from insend_relay.outbox.keys import Keys, Lane
from insend_relay.outbox.record import Record, new_id
from insend_relay.outbox.scripts import Calls
from insend_relay.producers import AsyncInSend, InSend, InvalidEvent, NotAccepted
from insend_relay.producers.calls import Asked
from insend_relay.producers.django import insend as django_insend
from insend_relay.producers.flask import FlaskInSend
from insend_relay.producers.request import Request, serving
from insend_relay.producers.testing import recording
from insend_relay.producers.validation import Checked, Event, Validator
from insend_relay.producers.visitor import Visitor, VisitorScope

SECRETS = ("anna@example.com", "Анна", "customer-77", "Guest.88", "+491234", "/private/page", "ORDER-99", "5551.25")
EVENT: dict[str, Any] = {
    "order_id": "ORDER-99",
    "revenue": 5551.25,
    "visitor_info": {"email": "anna@example.com", "first_name": "Анна", "phone": "+491234"},
    "url": "https://shop.example.com/private/page",
}
UIDS: dict[str, Any] = {"visitor_uid": "customer-77", "guest_uid": "Guest.88"}
NOWHERE: dict[str, Any] = {
    "app_key": "test-app-key",
    "domain": "shop.example.com",
    "redis_url": "redis://127.0.0.1:1/0",
    "enqueue_timeout_ms": 10_000,
}
HOLDS_AN_EVENT = {"payload", "properties", "entry", "data", "guest_uid"}


def recorded(value: Any, depth: int = 0) -> Iterator[str]:
    """What Sentry records of a value: it looks into containers, and asks ``__sentry_repr__`` before that."""
    if hasattr(type(value), "__sentry_repr__"):
        yield type(value).__sentry_repr__(value)
    elif depth < 6 and isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from recorded(item, depth + 1)
    elif depth < 6 and isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from recorded(item, depth + 1)
    else:
        yield repr(value)


def frames(error: BaseException) -> Iterator[FrameType]:
    """The frames of an error and of its causes that are ours."""
    seen: set[int] = set()
    chain: BaseException | None = error
    while chain is not None and id(chain) not in seen:
        seen.add(id(chain))
        for frame, _ in traceback.walk_tb(chain.__traceback__):
            if str(frame.f_globals.get("__name__", "")).startswith("insend_relay."):
                yield frame
        chain = chain.__cause__ or chain.__context__


def assert_nothing_personal(error: BaseException) -> None:
    looked_at = 0
    for frame in frames(error):
        looked_at += 1
        for name, value in frame.f_locals.items():
            for shown in recorded(value):
                assert not any(secret in shown for secret in SECRETS), (frame.f_code.co_name, name, shown)
    assert looked_at
    assert not any(secret in f"{error!r} {error}" for secret in SECRETS)


@pytest.fixture(params=["InSend", "AsyncInSend", "Flask", "Django", "on_commit"])
def buy(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Sends a purchase by each of the ways of sending one; no Redis is there."""
    if request.param == "InSend":
        yield InSend(**NOWHERE).purchase
    elif request.param == "AsyncInSend":
        yield lambda **event: asyncio.run(_awaited(event))
    elif request.param == "Flask":
        finsend, app = FlaskInSend(), Flask("shop")
        app.config.from_mapping(account(NOWHERE["redis_url"], "n"))
        finsend.init_app(app)
        with app.app_context():
            yield finsend.purchase
    else:
        with override_settings(INSEND={"APP_KEY": "k", "DOMAIN": "d.example", "REDIS_URL": NOWHERE["redis_url"]}):
            yield django_insend.purchase if request.param == "Django" else _on_commit


async def _awaited(event: dict[str, Any]) -> Any:
    return await AsyncInSend(**NOWHERE).purchase(**event)


def _on_commit(**event: Any) -> None:
    with override_settings(DEBUG=True), transaction.atomic():
        django_insend.on_commit.purchase(**event)


@pytest.mark.parametrize(
    "wrong", [{"revenue": "5551.25"}, {"items": [{"product_id": "ORDER-99"}]}, {"state": {"Анна"}}]
)
def test_a_refused_call_shows_nothing_personal(buy: Callable[..., Any], wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidEvent) as raised:
        buy(**{**EVENT, **UIDS, **wrong})
    assert_nothing_personal(raised.value)


@pytest.mark.parametrize("kind", ["InSend", "AsyncInSend"])
@pytest.mark.parametrize("event", [EVENT, {**EVENT, "revenue": None}])
def test_a_call_that_finds_no_redis_shows_nothing_personal(kind: str, event: dict[str, Any]) -> None:
    async def awaited() -> None:
        await AsyncInSend(**NOWHERE, invalid="bury").purchase(**event, **UIDS)

    def call() -> None:
        if kind == "InSend":
            InSend(**NOWHERE, invalid="bury").purchase(**event, **UIDS)
        else:
            asyncio.run(awaited())

    with pytest.raises(NotAccepted) as raised:
        call()
    assert_nothing_personal(raised.value)


def test_a_misspelt_argument_shows_nothing_personal() -> None:
    with pytest.raises(TypeError, match="revenu") as raised:
        InSend(**NOWHERE).purchase(order_id="ORDER-99", revenu=5551.25, **UIDS)  # type: ignore[call-arg]
    assert_nothing_personal(raised.value)


@pytest.mark.parametrize("kind", ["InSend", "AsyncInSend"])
def test_the_logged_in_visitor_of_a_request_is_not_shown(kind: str) -> None:
    insend = InSend(**NOWHERE, invalid="raise")
    wrong = {**EVENT, "revenue": "5551.25"}

    async def awaited() -> None:
        await AsyncInSend(settings=insend.settings).purchase(**wrong)

    def call() -> None:
        if kind == "InSend":
            insend.purchase(**wrong)
        else:
            asyncio.run(awaited())

    request = Request(
        settings=insend.settings, cookies={"convead_guest_uid": "Guest.88"}, visitor_uid=lambda: "customer-77"
    )
    with serving(request), pytest.raises(InvalidEvent) as raised:
        call()
    assert_nothing_personal(raised.value)


def test_objects_that_hold_an_event_show_types_and_sizes() -> None:
    visitor = Visitor("customer-77", "Guest.88", "https://shop.example.com/private/page")
    scope = VisitorScope("customer-77", "Guest.88")
    event = Event("purchase", {"order_id": "ORDER-99", "revenue": 5551.25}, EVENT["visitor_info"], None, visitor)
    examined = Validator("test-app-key", "shop.example.com").examine(event)
    checked = examined.outcome
    assert isinstance(checked, Checked)
    lane = Lane("test-app-key", "v", "customer-77")
    entry = Entry(lane, new_id(), checked.payload, "Guest.88")
    invalid = InvalidEntry("test-app-key", new_id(), lane, "purchase", checked.payload, "properties.revenue: missing")
    call = entry.call(Calls(Keys()))
    record = Record(bytes(16), 1, 2, 3, "Guest.88", checked.payload)
    plan = InSend(**NOWHERE)._plan(Asked(event, scope, None, None), None)
    with recording() as events:
        InSend(**NOWHERE).purchase(**EVENT, **UIDS)
    asked = Asked(event, scope, "key ORDER-99", None)
    held = [visitor, scope, event, asked, examined, checked, lane, entry, invalid, call, record, plan, events.sent]
    for value in held:
        for shown in (repr(value), str([value]), *recorded(value)):
            assert not any(secret in shown for secret in SECRETS), shown
    assert repr(visitor).startswith("Visitor(visitor_uid=<str[11]>, guest_uid=<str[8]>, url=<str[37]>, path=None, ")
    assert f"payload=<bytes[{len(checked.payload)}]>" in repr(checked)
    assert str(plan.id) in repr(plan)


def test_every_class_that_holds_an_event_is_masked() -> None:
    bare = []
    for package in (insend_relay.producers, insend_relay.outbox, insend_relay.spool, insend_relay.operations):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.endswith(".apps"):
                continue
            for member in vars(importlib.import_module(module.name)).values():
                if issubclass(type(member), type) and member.__module__ == module.name:
                    names = set(getattr(member, "_fields", ())) | set(getattr(member, "__dataclass_fields__", ()))
                    if names & HOLDS_AN_EVENT and not hasattr(member, "__sentry_repr__"):
                        bare.append(f"{module.name}.{member.__name__}")
    assert bare == [], "\n".join(bare)
