"""AsyncInSend keeps, returns, raises and counts what InSend does."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from counting import counted

from insend_relay.console.sandbox.quickstart import examples
from insend_relay.operations.dead import DeadLetters
from insend_relay.outbox.errors import SettingsError
from insend_relay.outbox.record import Record
from insend_relay.outbox.store import Outbox
from insend_relay.producers import AsyncInSend, InSend, InvalidEvent, NotAccepted, Receipt
from insend_relay.producers.request import Request, serving

Kept = Callable[[str], list[Record]]
Run = Callable[[Callable[[Any], Any]], list[Any]]
EXAMPLES = examples()
PAGE = {
    "url": "https://shop.example.com/p/1?a=%D1%8F",
    "path": "/p/1",
    "title": "Сапоги",
    "host": "shop.example.com:8443",
}


@pytest.fixture
def both(insend: InSend) -> Run:
    """Makes a call on an InSend and on an AsyncInSend with the same settings; what each returned or raised."""

    async def awaited(call: Callable[[Any], Any]) -> Any:
        async with AsyncInSend(settings=insend.settings) as twin:
            return await call(twin)

    def run(call: Callable[[Any], Any]) -> list[Any]:
        return [outcome(lambda: call(insend)), outcome(lambda: asyncio.run(awaited(call)))]

    return run


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (InvalidEvent, NotAccepted) as error:
        return error


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: str(event["type"]))
def test_the_same_call_keeps_the_same_bytes(both: Run, kept: Kept, event: dict[str, Any]) -> None:
    def by_method(insend: Any) -> Any:
        about = {"visitor_info": event.get("visitor_info"), "visitor_uid": "42", "guest_uid": "Guest.1", **PAGE}
        return getattr(insend, event["type"])(**event["properties"], **about)

    def by_javascript(insend: Any) -> Any:
        with insend.visitor(visitor_uid="42", guest_uid="Guest.1", **PAGE):
            return insend("event", event["type"], event["properties"], event.get("visitor_info", {}))

    receipts = both(by_method) + both(by_javascript)
    records = kept("v/42")
    assert [receipt.where for receipt in receipts] == ["redis"] * 4
    assert [receipt.id.bytes for receipt in receipts] == [record.id for record in records]
    assert len({record.payload for record in records}) == 1
    assert {record.guest_uid for record in records} == {"Guest.1"}


def test_every_public_call_of_the_one_is_there_in_the_other() -> None:
    def calls(kind: type) -> dict[str, str]:
        members = inspect.getmembers(kind, inspect.isfunction)
        return {name: str(inspect.signature(call)) for name, call in members if not name.startswith("_")}

    only_sync, only_async = {"close", "prepare", "take"}, {"aclose", "take"}
    assert {name: said for name, said in calls(InSend).items() if name not in only_sync} == {
        name: said for name, said in calls(AsyncInSend).items() if name not in only_async
    }


def test_a_second_event_of_a_key_is_a_duplicate_for_both(both: Run, kept: Kept) -> None:
    first, second = both(lambda insend: insend.purchase(order_id=1, revenue=5, visitor_uid=1, idempotency_key="o 1"))
    assert (first.where, second) == ("redis", Receipt(first.id, "duplicate"))
    assert len(kept("v/1")) == 1


def test_an_event_of_nobody_is_counted_by_both(both: Run, outbox: Outbox) -> None:
    assert [receipt.where for receipt in both(lambda insend: insend.link())] == ["no_visitor"] * 2
    assert counted(outbox) == {"no_visitor": 2}


def test_an_event_of_an_opted_out_visitor_is_counted_by_both(insend: InSend, both: Run, outbox: Outbox) -> None:
    cookies = {"convead_track_disable": "1", "convead_guest_uid": "g"}
    with serving(Request(settings=insend.settings, cookies=cookies, visitor_uid=lambda: "42")):
        assert [receipt.where for receipt in both(lambda insend: insend.link())] == ["opted_out"] * 2
    assert counted(outbox) == {"opted_out": 2}


def test_an_invalid_event_raises_the_same_in_both(both: Run, outbox: Outbox) -> None:
    first, second = both(lambda insend: insend.purchase(order_id="", revenue="5", visitor_uid="NOT VALID"))
    assert isinstance(first, InvalidEvent)
    assert isinstance(second, InvalidEvent)
    assert first.faults == second.faults
    assert counted(outbox) == {}


def test_an_invalid_event_is_buried_alike(redis_url: str, namespace: str, outbox: Outbox) -> None:
    given: dict[str, Any] = {
        "app_key": "test-app-key",
        "domain": "shop.example.com",
        "redis_url": redis_url,
        "namespace": namespace,
        "invalid": "bury",
        "enqueue_timeout_ms": 10_000,
    }

    async def bury() -> Receipt:
        async with AsyncInSend(**given) as insend:
            return await insend.mailto(email="", visitor_uid="42")

    with InSend(**given) as insend:
        assert insend.mailto(email="", visitor_uid="42").where == "invalid"
    assert asyncio.run(bury()).where == "invalid"
    assert counted(outbox) == {"accepted": 2, "dead": 2}
    letters = list(DeadLetters(outbox).scan())
    assert len(letters) == 2
    assert all(b'"visitor_uid":"42"' in letter.payload for letter in letters)


def test_switched_off_it_validates_and_keeps_nothing() -> None:
    async def main() -> None:
        async with AsyncInSend(enabled=False, redis_url="redis://127.0.0.1:1/0") as insend:
            assert (await insend.link(visitor_uid="42")).where == "disabled"
            assert (await insend.link()).where == "disabled"
            with pytest.raises(InvalidEvent):
                await insend.mailto(email="", visitor_uid="42")
            assert insend._link._loops == {}

    asyncio.run(main())


def test_an_event_belongs_to_the_visitor_of_the_call_not_of_the_moment_in_which_it_is_awaited(
    insend: InSend, kept: Kept
) -> None:
    async def main() -> None:
        async with AsyncInSend(settings=insend.settings) as twin:
            with twin.visitor(visitor_uid="42"):
                call = twin.link()
            with twin.visitor(visitor_uid="43"):
                await call

    asyncio.run(main())
    assert (len(kept("v/42")), len(kept("v/43"))) == (1, 0)


def test_wrong_settings_say_which_variable_to_set() -> None:
    with pytest.raises(SettingsError, match="INSEND_REDIS_URL"):
        AsyncInSend(app_key="k", domain="shop.example.com", redis_url="redis://127.0.0.1?no_such_option=1")
    with pytest.raises(SettingsError, match="INSEND_APP_KEY"):
        AsyncInSend.from_env({"INSEND_DOMAIN": "shop.example.com"})


def test_repr_shows_neither_app_key_nor_password() -> None:
    shown = repr(AsyncInSend(app_key="geheim", domain="shop.example.com", redis_url="redis://:geheim@127.0.0.1:1/0"))
    assert shown == "AsyncInSend(domain='shop.example.com', redis='127.0.0.1:1')"
