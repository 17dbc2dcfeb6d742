"""Shop data as forms give them: blank fields, spaces around ids and addresses."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from waiting import PATIENCE_SECONDS

from insend_relay.outbox.record import Record
from insend_relay.producers import ERASE, InSend, InvalidEvent
from insend_relay.producers.left_out import OnceAnHour, log_left_out
from insend_relay.producers.request import Request, serving
from insend_relay.producers.testing import RecordedEvents, recording
from insend_relay.producers.validation import Event, Validator
from insend_relay.producers.visitor import Visitor

Kept = Callable[[str], list[Record]]
BLANK = ("", "   ", "\t\n", "\u00a0")


class Clock:
    """A clock that a test sets."""

    seconds = 1_000_000.0

    def __call__(self) -> float:
        return self.seconds


def sent(events: RecordedEvents) -> Any:
    return events.sent[-1]


@pytest.fixture
def events() -> Any:
    with recording() as events:
        yield events


@pytest.fixture
def shop(events: RecordedEvents) -> InSend:
    assert not events.sent
    return InSend(app_key="test-app-key", domain="shop.example.com")


@pytest.mark.parametrize("blank", BLANK)
def test_a_blank_field_of_visitor_info_is_left_out(shop: InSend, events: RecordedEvents, blank: str) -> None:
    info = {
        "phone": blank,
        "email": blank,
        "gender": blank,
        "date_of_birth": blank,
        "card": blank,
        "first_name": "Anna",
    }
    shop.purchase(order_id=1, revenue=5, visitor_uid=42, visitor_info=info)
    assert sent(events).visitor_info == {"first_name": "Anna"}
    assert len(info) == 6


def test_a_purchase_with_an_empty_form_field_is_kept_in_a_request(insend: InSend, kept: Kept) -> None:
    request = Request(settings=insend.settings, cookies={}, visitor_uid=lambda: 42)
    with serving(request):
        assert insend.purchase(order_id=1, revenue=5, visitor_info={"phone": ""}).where == "redis"
    (record,) = kept("v/42")
    assert "visitor_info" not in json.loads(record.payload)


def test_erase_still_empties_a_field(shop: InSend, events: RecordedEvents) -> None:
    shop.update_info(visitor_uid=42, visitor_info={"phone": ERASE, "email": ""})
    assert sent(events).visitor_info == {"phone": ""}


def test_an_update_info_of_blank_fields_has_nothing_to_say(shop: InSend) -> None:
    with pytest.raises(InvalidEvent, match="visitor_info: missing or blank"):
        shop.update_info(visitor_uid=42, visitor_info={"phone": ""})


def test_a_blank_field_elsewhere_is_no_blank_field_of_visitor_info(shop: InSend, events: RecordedEvents) -> None:
    shop.custom(key="k", properties={"note": ""}, visitor_uid=42)
    assert sent(events).properties == {"key": "k", "note": ""}
    with pytest.raises(InvalidEvent, match=r"properties\.email: is empty"):
        shop.mailto(email=" ", visitor_uid=42)


@pytest.mark.parametrize("around", [" {} ", "\t{}\n", "\u00a0{}"])
def test_spaces_around_uids_and_addresses_are_stripped(shop: InSend, events: RecordedEvents, around: str) -> None:
    shop.mailto(
        email=around.format("shop@example.com"),
        visitor_uid=around.format("42"),
        guest_uid=around.format("Guest.1"),
        visitor_info={"email": around.format("anna@example.com")},
    )
    event = sent(events)
    assert (event.visitor_uid, event.guest_uid) == ("42", "Guest.1")
    assert event.properties["email"] == "shop@example.com"
    assert event.visitor_info == {"email": "anna@example.com"}


def test_a_uid_of_spaces_is_none(shop: InSend) -> None:
    assert shop.link(visitor_uid=" ", guest_uid="  ").where == "no_visitor"


def test_the_stripped_uid_names_the_lane(insend: InSend, kept: Kept) -> None:
    insend.link(visitor_uid=" 42 ")
    assert len(kept("v/42")) == 1


def test_staff_who_name_the_guest_of_their_own_browser_with_spaces_are_that_guest(shop: InSend) -> None:
    cookies = {"convead_guest_uid": "g", "convead_track_disable": "1"}
    request = Request(settings=shop.settings, cookies=cookies, visitor_uid=lambda: 42)
    with serving(request):
        assert shop.link(guest_uid=" g ").where == "opted_out"


@pytest.mark.parametrize("uid", ["4 2", "ANNA", "a_b"])
def test_nothing_else_of_a_uid_is_changed(shop: InSend, uid: str) -> None:
    with pytest.raises(InvalidEvent, match="visitor_uid"):
        shop.link(visitor_uid=uid)


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "insend_relay.producers"]


def tell(said: OnceAnHour, **info: Any) -> None:
    event = Event("link", None, info, None, Visitor("42"))
    validator = Validator("test-app-key", "shop.example.com")
    log_left_out(None, validator.examine(event), said)  # type: ignore[arg-type]  # the id is not used


def test_a_blank_field_is_logged_once_an_hour_by_its_name(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    said = OnceAnHour(clock)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            tell(said, phone="", email="anna@example.com")
        tell(said, language=" ")
        assert [line.split()[0] for line in logged(caplog)] == ["visitor_info.phone", "visitor_info.language"]
        clock.seconds += 3600
        tell(said, phone="")
    assert [line.split()[0] for line in logged(caplog)[2:]] == ["visitor_info.phone"]
    assert "ERASE" in logged(caplog)[0]
    assert "anna" not in caplog.text


def test_a_field_whose_name_may_be_personal_is_not_named(caplog: pytest.LogCaptureFixture) -> None:
    tell(OnceAnHour(Clock()), **{"anna@example.com": ""})
    assert "anna" not in caplog.text
    assert len(logged(caplog)) == 1


def test_of_many_threads_one_says_it() -> None:
    said, together = OnceAnHour(Clock()), threading.Barrier(8, timeout=PATIENCE_SECONDS)
    first: list[bool] = []

    def say() -> None:
        together.wait()
        first.append(said.first("phone"))

    threads = [threading.Thread(target=say) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(first) == [False] * 7 + [True]


def test_what_is_remembered_of_an_hour_is_bounded_and_forgotten_with_it() -> None:
    clock = Clock()
    said = OnceAnHour(clock)
    assert sum(said.first(f"field{number}") for number in range(2000)) == 1000
    clock.seconds += 3600
    assert said.first("field1999")
    assert len(said._hours) == 1
