"""The recorder: an application's tests see what it sent, and need no Redis."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any

import pytest
from waiting import PATIENCE_SECONDS

from insend_relay.outbox.settings import Settings
from insend_relay.producers import AsyncInSend, InSend, InvalidEvent
from insend_relay.producers.producer import Producer
from insend_relay.producers.request import Request, serving
from insend_relay.producers.testing import RecordedEvents, recording

NOWHERE: dict[str, Any] = {"redis_url": "redis://127.0.0.1:1/0"}  # nothing listens there
ACCOUNT: dict[str, Any] = {"app_key": "test-app-key", "domain": "shop.example.com", **NOWHERE}


def test_it_shows_an_event_as_the_tracker_would_get_it() -> None:
    with recording() as events:
        receipt = InSend(**ACCOUNT).purchase(
            order_id=1042,
            revenue=99.5,
            visitor_uid=42,
            guest_uid="g",
            visitor_info={"email": "a@example.com"},
            attributes={"source": "app"},
            url="https://shop.example.com:8443/thanks",
            path="/thanks",
            title="Thanks",
            referrer="https://r.example.net/",
            idempotency_key="purchase-1042",
        )
    (event,) = events
    assert receipt.where == event.where == "redis"
    assert (event.type, event.visitor_uid, event.guest_uid) == ("purchase", "42", "g")
    assert event.properties == {"order_id": "1042", "revenue": 99.5}
    assert event.visitor_info == {"email": "a@example.com"}
    assert event.attributes == {"source": "app"}
    assert (event.url, event.host) == ("https://shop.example.com:8443/thanks", "shop.example.com:8443")
    assert (event.path, event.title, event.referrer) == ("/thanks", "Thanks", "https://r.example.net/")
    assert event.idempotency_key == "purchase-1042"
    assert event.data["app_key"] == "test-app-key"


def test_what_an_event_does_not_carry_is_none_or_empty() -> None:
    with recording() as events:
        InSend(**ACCOUNT).mailto(email="a@example.com", guest_uid="g")
    (event,) = events
    assert (event.visitor_uid, event.url, event.path, event.title, event.referrer, event.idempotency_key) == (None,) * 6
    assert (event.visitor_info, event.attributes) == ({}, {})


def test_both_kinds_record_in_the_order_of_their_calls() -> None:
    async def main() -> None:
        async with AsyncInSend(**ACCOUNT) as insend:
            await insend.link(visitor_uid="1")

    with recording() as events:
        InSend(**ACCOUNT).link(visitor_uid="0")
        asyncio.run(main())
        InSend(**ACCOUNT).mailto(email="a@example.com", visitor_uid="2")
    assert [event.visitor_uid for event in events] == ["0", "1", "2"]
    assert events.types == ["link", "link", "mailto"]
    assert events.of("mailto") == [events.sent[2]]
    assert events.of("purchase") == []
    assert len(events) == 3


@pytest.mark.parametrize("settings", [Settings(), Settings(enabled=False), Settings(enabled=False, invalid="bury")])
def test_an_application_without_an_account_records_as_well(settings: Settings) -> None:
    """As a test run finds it: no variable is set, so the application switches sending off."""
    with recording() as events:
        insend = InSend(settings=settings, enabled=False, **NOWHERE)
        assert insend.link(visitor_uid="42").where == "redis"
        with pytest.raises(InvalidEvent):
            insend.mailto(email="", visitor_uid="42")
    assert events.types == ["link"]


@pytest.mark.parametrize("invalid", ["auto", "raise", "bury"])
def test_a_bad_event_raises_whatever_the_settings_say(invalid: Any) -> None:
    request = Request(settings=Settings(), cookies={"convead_guest_uid": "g"}, visitor_uid=lambda: None)
    with recording() as events, serving(request), pytest.raises(InvalidEvent, match=r"properties\.email"):
        InSend(**ACCOUNT, invalid=invalid).mailto(email="")
    assert len(events) == len(events.not_sent) == 0


def test_what_would_not_be_kept_stands_apart_and_says_why() -> None:
    request = Request(
        settings=Settings(),
        cookies={"convead_guest_uid": "g", "convead_track_disable": "1"},
        visitor_uid=lambda: None,
    )
    with recording() as events:
        insend = InSend(**ACCOUNT)
        assert insend.link().where == "no_visitor"
        with serving(request):
            assert insend.mailto(email="a@example.com").where == "opted_out"
    assert events.sent == []
    assert [(event.type, event.where) for event in events.not_sent] == [("link", "no_visitor"), ("mailto", "opted_out")]


def test_a_second_event_of_a_key_is_a_duplicate_of_the_first() -> None:
    with recording() as events:
        insend = InSend(**ACCOUNT)
        first, second = (insend.link(visitor_uid="42", idempotency_key="k") for _ in range(2))
        assert (first.where, second.where, second.id) == ("redis", "duplicate", first.id)
        assert insend.link(visitor_uid="42", idempotency_key="other").where == "redis"
        assert [insend.link(visitor_uid="42").where for _ in range(2)] == ["redis", "redis"]
        assert len(events) == 4
        events.clear()
        assert insend.link(visitor_uid="42", idempotency_key="k").where == "redis"
        assert len(events) == 1


def test_accounts_have_their_keys_apart_as_in_redis() -> None:
    with recording() as events:
        for app_key in ("one", "two"):
            assert (
                InSend(**{**ACCOUNT, "app_key": app_key}).link(visitor_uid="42", idempotency_key="k").where == "redis"
            )
    assert len(events) == 2


def test_the_guest_is_told_of_once_as_in_redis() -> None:
    request = Request(settings=Settings(), cookies={"convead_guest_uid": "g"}, visitor_uid=lambda: "42")
    with recording() as events:
        insend = InSend(**ACCOUNT)
        insend.link(visitor_uid="42", idempotency_key="k")
        with serving(request):
            assert insend.link(idempotency_key="k").where == "duplicate"
            insend.link()
            insend.link()
        assert request.known.new_value
    assert [event.guest_uid for event in events] == [None, "g", None]


def test_of_two_threads_with_the_same_key_one_is_the_duplicate() -> None:
    together = threading.Barrier(8, timeout=PATIENCE_SECONDS)
    places: list[str] = []

    def submit() -> None:
        together.wait()
        places.append(insend.link(visitor_uid="42", idempotency_key="k").where)

    with recording() as events:
        insend = InSend(**ACCOUNT)
        threads = [threading.Thread(target=submit) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(places) == ["duplicate"] * 7 + ["redis"]
    assert len(events) == 1


def test_a_recording_inside_another_has_its_events_and_ends_with_its_block() -> None:
    insend = InSend(**ACCOUNT)
    with recording() as outer:
        insend.link(visitor_uid="1")
        with suppress(ZeroDivisionError), recording() as inner:
            insend.link(visitor_uid="2")
            _ = 1 / 0
        insend.link(visitor_uid="3")
    assert [event.visitor_uid for event in outer] == ["1", "3"]
    assert [event.visitor_uid for event in inner] == ["2"]
    assert Producer.recorder is None


def test_an_object_from_before_the_recording_records_and_goes_on_afterwards(insend: InSend) -> None:
    assert insend.link(visitor_uid="42").where == "redis"
    with recording() as events:
        insend.link(visitor_uid="42")
    assert insend.link(visitor_uid="42").where == "redis"
    assert len(events) == 1


def test_a_failing_assertion_says_what_there_was_instead() -> None:
    with recording() as events:
        assert repr(events) == "<sent: nothing; not sent: nothing>"
        InSend(**ACCOUNT).link(visitor_uid="42")
        InSend(**ACCOUNT).mailto(email="a@example.com")
    assert repr(events) == "<sent: link; not sent: mailto (no_visitor)>"
    shown = repr(events.sent[0])
    assert shown.startswith("SentEvent(type='link', where='redis', visitor_uid=<str[2]>")
    assert "test-app-key" not in shown


def test_the_fixture_records(insend_events: RecordedEvents) -> None:
    InSend(**ACCOUNT).link(visitor_uid="42")
    assert insend_events.types == ["link"]


def test_the_fixture_begins_anew_with_each_test(insend_events: RecordedEvents) -> None:
    assert len(insend_events) == 0
