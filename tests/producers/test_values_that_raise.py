"""Values that raise while they are read: a fault of the event, never another exception."""

from __future__ import annotations

import collections
import datetime as dt
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.utils.functional import SimpleLazyObject

from insend_relay.producers import InSend, InvalidEvent
from insend_relay.producers.salvage import salvage
from insend_relay.producers.testing import RecordedEvents
from insend_relay.producers.validation import Event, Faulty, Validator
from insend_relay.producers.visitor import Visitor


class Hostile:
    """Raises whatever is asked of it, as a detached model or an array in a comparison does."""

    def _fail(self, *_: Any) -> Any:
        raise RuntimeError("secret")

    __eq__ = __bool__ = __str__ = __len__ = __iter__ = __getattr__ = _fail
    __hash__ = object.__hash__


@pytest.mark.parametrize("field", ["visitor_uid", "guest_uid", "url", "path", "title", "referrer", "host"])
def test_an_object_that_raises_is_a_fault_and_never_another_exception(field: str) -> None:
    about: dict[str, Any] = {field: Hostile()}
    event = Event("link", None, None, None, Visitor(**about))
    outcome = Validator("key", "shop.example.com").examine(event).outcome
    assert isinstance(outcome, Faulty)
    assert [path for path, _ in outcome.faults] == [field]


@pytest.mark.parametrize("part", ["type", "properties", "visitor_info", "attributes"])
@pytest.mark.parametrize("inside", [False, True])
def test_so_is_one_that_is_a_part_of_an_event_or_inside_one(part: str, inside: bool) -> None:  # noqa: FBT001 - the example
    value: Any = {"key": "k", "v": Hostile()} if inside else Hostile()
    event = Event("custom", {"key": "k"}, None, None, Visitor("42"))._replace(**{part: value})
    examined = Validator("key", "shop.example.com").examine(event)
    assert isinstance(examined.outcome, Faulty)
    assert all(path.startswith(part) for path, _ in examined.outcome.faults)
    assert b"secret" not in salvage(examined.event.as_given("key", "shop.example.com"))


class FailingZone(dt.tzinfo):
    """As of a model whose row is gone."""

    def utcoffset(self, _: dt.datetime | None) -> dt.timedelta | None:
        raise RuntimeError("secret")

    tzname = dst = utcoffset  # type: ignore[assignment]  # likewise


class FailingDate(dt.date):
    def isoformat(self) -> str:
        raise RuntimeError("secret")


class OddDate(dt.date):
    def isoformat(self) -> Any:
        return 5


FAILING_DATES = [dt.datetime(2026, 1, 1, tzinfo=FailingZone()), dt.time(1, tzinfo=FailingZone()), FailingDate.today()]


@pytest.mark.parametrize("value", [*FAILING_DATES, OddDate.today()])
def test_a_date_that_raises_is_a_fault_of_its_own(value: Any) -> None:
    event = Event("custom", {"key": "k", "v": value}, {"born": value}, None, Visitor("42"))
    examined = Validator("key", "shop.example.com").examine(event)
    assert isinstance(examined.outcome, Faulty)
    assert [path for path, _ in examined.outcome.faults] == ["visitor_info.born", "properties.v"]
    assert b"secret" not in salvage(examined.event.as_given("key", "shop.example.com"))


class FailingList(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError("secret")


@pytest.mark.parametrize("part", ["type", "visitor_uid", "guest_uid", "url", "title", "host"])
@pytest.mark.parametrize("value", [FailingList([1]), FailingDate.today()])
def test_a_list_or_date_that_raises_where_a_string_belongs_reaches_the_letter(part: str, value: Any) -> None:
    event = Event("link", None, None, None, Visitor("42"))
    event = (
        event._replace(type=value)
        if part == "type"
        else event._replace(visitor=Visitor("42")._replace(**{part: value}))
    )
    examined = Validator("key", "shop.example.com").examine(event)
    assert isinstance(examined.outcome, Faulty)
    assert [path for path, _ in examined.outcome.faults] == [part]
    assert json.loads(salvage(examined.event.as_given("key", "shop.example.com")))[part] == f"<{type(value).__name__}>"


class FailingMapping(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("secret")


def unreachable() -> dict[str, Any]:
    raise RuntimeError("secret")


@pytest.mark.parametrize(
    "make", [lambda: FailingMapping(plan="gold"), lambda: SimpleLazyObject(unreachable), Hostile, lambda: [1]]
)
def test_properties_of_a_custom_event_that_raise_are_a_fault(
    insend_events: RecordedEvents, make: Callable[[], Any]
) -> None:
    insend = InSend(app_key="key", domain="shop.example.com")
    with pytest.raises(InvalidEvent, match=r"^properties: "):
        insend.custom(key="signup", properties=make(), visitor_uid=42)
    insend.custom(key="signup", properties=collections.ChainMap({"plan": "gold"}, {"key": "other"}), visitor_uid=42)
    assert [event.properties for event in insend_events] == [{"key": "signup", "plan": "gold"}]
