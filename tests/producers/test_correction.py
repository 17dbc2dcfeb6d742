"""A dead letter's event, corrected: which rules hold for it, and what it keeps."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from insend_relay.console.commands.correction import correct
from insend_relay.operations.dead import DeadLetters, Letter
from insend_relay.outbox.errors import InvalidEvent
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.record import Record, decode
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.producers import ERASE, InSend
from insend_relay.producers.json_reader import read_object

PURCHASE = {
    "app_key": "old-shop",
    "domain": "old.example.com",
    "type": "purchase",
    "visitor_uid": "42",
    "properties": {"order_id": "7", "revenue": 1.5},
}
GOLDEN = sorted((Path(__file__).parent / "golden").iterdir())


def letter(payload: bytes, reason: str = "invalid") -> Letter:
    return Letter(
        id=uuid.UUID(int=7),
        seq=3,
        lane=None,
        app="shop",
        type="purchase",
        reason=reason,
        outcome="invalid",
        status=None,
        answer="",
        attempts=0,
        guest_uid="",
        accepted_at_ms=0,
        died_at_ms=0,
        burial=1,
        payload=payload,
        record=b"a record",
    )


def corrected(data: dict[str, Any], *, reason: str = "invalid", stored: Any = None, strict: bool | None = None) -> Any:
    payload = json.dumps(PURCHASE if stored is None else stored).encode()
    return correct(letter(payload, reason), read_object(json.dumps(data)), strict=strict)


def faults(data: dict[str, Any], **more: Any) -> dict[str, str]:
    with pytest.raises(InvalidEvent) as refused:
        corrected(data, **more)
    return dict(refused.value.faults)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name)
def test_what_producers_wrote_reads_back_byte_for_byte(path: Path) -> None:
    payload = path.read_bytes().strip()
    assert correct(letter(payload, "answered 400"), read_object(payload)).payload == payload


def test_numbers_are_sent_as_they_are_written() -> None:
    data = read_object(
        '{"type":"purchase","domain":"d.io","visitor_uid":"1","properties":{"order_id":"7","revenue":1.10,"items":[]}}'
    )
    assert b'"revenue":1.10,' in correct(letter(b"{}"), data).payload


def test_the_account_is_the_events_own_and_not_the_environments() -> None:
    event = corrected(PURCHASE)
    assert str(event.lane) == "old-shop/v/42"
    assert json.loads(event.payload)["domain"] == "old.example.com"


def test_a_wrong_app_key_and_a_wrong_domain_can_be_corrected() -> None:
    event = corrected({**PURCHASE, "app_key": "new-shop", "domain": "New.example.com"})
    sent = json.loads(event.payload)
    assert (event.lane.app, sent["app_key"], sent["domain"]) == ("new-shop", "new-shop", "new.example.com")


def test_an_account_that_is_left_out_is_the_letters() -> None:
    sent = json.loads(corrected({name: value for name, value in PURCHASE.items() if name[0] not in "ad"}).payload)
    assert (sent["app_key"], sent["domain"]) == ("shop", "old.example.com")


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"app_key": "a/b"}, ("app_key", "use the key as the account shows it")),
        ({"app_key": 7}, ("app_key", "must be a string")),
        ({"domain": ""}, ("domain", "missing")),
        ({"domain": "https://x.example.com/"}, ("domain", "give the domain alone, such as shop.example.com")),
        (
            {"domain": "xn--e1afmkfd.example"},
            ("domain", "give an international domain in its own letters, not as xn--"),
        ),
        ({"visitor_uid": None}, ("visitor_uid", "missing; so is guest_uid, and an event needs one of them")),
        ({"propertys": {}}, ("propertys", "no such field of an event")),
    ],
)
def test_what_cannot_be_sent_is_refused(changed: dict[str, Any], fault: tuple[str, str]) -> None:
    name, problem = fault
    assert faults({**PURCHASE, **changed}) == {name: problem}


def test_every_fault_is_told_at_once() -> None:
    assert set(faults({"app_key": "", "domain": "", "type": "purchase", "colour": 1, "properties": {}})) == {
        *("app_key", "domain", "colour", "properties.order_id", "properties.revenue")
    }


def test_without_a_domain_in_the_letter_the_correction_has_to_name_one() -> None:
    data = {name: value for name, value in PURCHASE.items() if name != "domain"}
    assert faults(data, stored=[]) == {"domain": "missing"}


def test_an_empty_string_of_a_valid_event_still_erases_the_field() -> None:
    data = {**PURCHASE, "visitor_info": {"phone": "", "email": "zoe@example.com"}}
    event = corrected(data, reason="answered 400", stored=data)
    assert json.loads(event.payload)["visitor_info"] == {"phone": "", "email": "zoe@example.com"}


def test_an_empty_string_of_an_invalid_event_is_a_blank_field() -> None:
    data = {**PURCHASE, "visitor_info": {"phone": "", "first_name": "Zoe"}}
    assert json.loads(corrected(data, stored=data).payload)["visitor_info"] == {"first_name": "Zoe"}


def test_a_field_that_an_invalid_event_was_to_erase_is_erased(outbox: Outbox, namespace: str, redis_url: str) -> None:
    settings = Settings(redis_url=redis_url, namespace=namespace, app_key="shop", domain="d.example", invalid="bury")
    with InSend(settings=settings) as insend:
        insend.update_info(visitor_info={"phone": ERASE, "gender": "?"}, visitor_uid=7)
    (found,) = DeadLetters(outbox).scan()
    data = read_object(found.payload)
    data["visitor_info"]["gender"] = "female"
    assert json.loads(correct(found, data).payload)["visitor_info"] == {"phone": "", "gender": "female"}


def test_a_valid_event_that_was_sent_leniently_is_checked_leniently_again() -> None:
    stored = {**PURCHASE, "type": "view_shelf"}
    assert corrected({**stored, "properties": {"shelf": 2}}, reason="answered 400", stored=stored)


@pytest.mark.parametrize("reason", ["answered 400", "invalid"])
def test_a_misspelt_property_is_refused_unless_it_is_meant(reason: str) -> None:
    data = {**PURCHASE, "properties": {"order_id": "7", "revenue": 1.5, "stat": "paid"}}
    assert "properties.stat" in faults(data, reason=reason)
    assert corrected(data, reason=reason, strict=False)


def test_an_invalid_event_is_checked_strictly_whatever_it_was() -> None:
    stored = {**PURCHASE, "type": "view_shelf"}
    assert "type" in faults(stored, stored=stored)


def test_an_event_with_both_uids_is_the_visitors_and_names_its_guest() -> None:
    event = corrected({**PURCHASE, "guest_uid": "g-1"})
    assert (event.lane, event.guest_uid) == (Lane("old-shop", "v", "42"), "g-1")
    guests = corrected({**PURCHASE, "guest_uid": "g-1", "visitor_uid": ""})
    assert (guests.lane, guests.guest_uid) == (Lane("old-shop", "g", "g-1"), "")


def test_an_event_that_is_too_large_is_refused() -> None:
    assert "event" in faults({**PURCHASE, "attributes": {"x": "y" * 70_000}})


Call = Callable[[InSend], object]


@pytest.mark.parametrize(
    "call",
    [
        lambda insend: insend.custom(
            key="seen", properties={"a": None, "b": [1, {"c": Decimal("1.50")}], "d": "é\u2028\x7f"}, visitor_uid=7
        ),
        lambda insend: insend.update_info(visitor_info={"phone": ERASE, "vip": True, "score": 0.1}, guest_uid="g.1"),
        lambda insend: insend.link(key_page_id=12, path="/p", visitor_uid="1", guest_uid="G_1"),
        lambda insend: insend.event("shelf", {"x": None}, visitor_uid="1", strict=False, host="h:8443"),
        lambda insend: insend.update_cart(items=[], visitor_uid="1", attributes={"source": "app"}),
    ],
)
def test_any_event_of_a_producer_reads_back_byte_for_byte(
    outbox: Outbox, namespace: str, redis_url: str, call: Call
) -> None:
    with InSend(redis_url=redis_url, namespace=namespace, app_key="shop", domain="shop.example.com") as insend:
        call(insend)
    (claim,) = outbox.claim("worker-1", 1, lease_ms=60_000)
    stored: Record = decode(claim.data)
    found = replace(letter(stored.payload, "answered 400"), lane=Lane.parse(claim.lane))
    event = correct(found, read_object(stored.payload))
    assert (event.payload, str(event.lane), event.guest_uid) == (stored.payload, claim.lane, stored.guest_uid)


# Reading JSON


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a":1,"a":2}', 'the name "a" occurs twice in an object'),
        ('{"b":{"a":1,"a":1}}', 'the name "a" occurs twice in an object'),
        ("[]", "must be a JSON object"),
        ("", "not JSON"),
        ('{"a":Infinity}', "Infinity is no JSON number"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_text_with_no_one_meaning_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem.replace("(", r"\(")):
        read_object(text)
