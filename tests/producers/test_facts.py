"""What the header of a record says of an event: the producers know it, and a payload tells the same."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insend_relay.operations.dead import DeadLetters
from insend_relay.outbox.event_type import NAMES, OTHER, UNREADABLE, code_of, name_of
from insend_relay.outbox.facts import Facts, facts_in, facts_of, order_hash
from insend_relay.outbox.record import Record, decode
from insend_relay.outbox.settings import Settings
from insend_relay.producers import InSend
from insend_relay.producers.event_types import STRICT
from insend_relay.producers.validation import Event, Validator
from insend_relay.producers.visitor import Visitor

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))
VALIDATOR = Validator("shop", "shop.example.com")
Kept = Callable[[str], list[Record]]


def test_every_type_of_the_contract_has_a_code_of_its_own() -> None:
    assert {code_of(name) for name in STRICT} == set(range(1, len(NAMES)))
    assert [name_of(code_of(name)) for name in STRICT] == list(STRICT)


@pytest.mark.parametrize(("name", "code"), [("", 0), ("?", 0), (None, 0), (5, 0), ("my_type", OTHER), ("other", OTHER)])
def test_any_other_type_has_the_code_of_all_others(name: object, code: int) -> None:
    assert code_of(name) == code
    assert name_of(OTHER) == name_of(200) == "other"
    assert name_of(UNREADABLE) == "?"


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_the_header_of_each_golden_event(path: Path, insend: InSend, kept: Kept) -> None:
    event = json.loads(path.read_bytes())
    insend.event(event["type"], event["properties"], event.get("visitor_info"), visitor_uid="42", url="https://a.b/")
    (record,) = kept("v/42")
    of_order = event["type"] in {"purchase", "order_update"}
    order = order_hash("12345") if of_order else b""
    assert record.facts == Facts("event", code_of(event["type"]), 999_900 if of_order else None, order=order)
    assert record.facts == facts_in(record.payload)


@pytest.mark.parametrize(
    ("revenue", "units"),
    [(1.10, 11_000), (Decimal("1.10"), 11_000), (0, 0), (-5, None), (Decimal("1.00001"), None), (1e30, None)],
)
@pytest.mark.parametrize("type", ["purchase", "order_update"])
def test_revenue_that_cannot_be_counted_is_unknown_and_taken_all_the_same(
    insend: InSend, kept: Kept, type: str, revenue: Any, units: int | None
) -> None:
    receipt = insend.event(type, {"order_id": 7, "revenue": revenue, "state": "new"}, visitor_uid="42")
    assert receipt.where == "redis"
    (record,) = kept("v/42")
    assert (record.facts.revenue, record.facts.revenue_unknown) == (units, units is None)


@pytest.mark.parametrize("revenue", [{}, {"revenue": None}])
def test_an_order_update_without_revenue_has_none_and_it_is_not_unknown(
    insend: InSend, kept: Kept, revenue: dict[str, Any]
) -> None:
    insend.event("order_update", {"order_id": 7, "state": "paid", **revenue}, visitor_uid="42")
    (record,) = kept("v/42")
    assert (record.facts.revenue, record.facts.revenue_unknown) == (None, False)


@pytest.mark.parametrize("order_id", [5001, "5001", uuid.UUID(int=7), "№ 12/5"])
def test_the_order_is_known_by_the_text_that_the_payload_has(insend: InSend, kept: Kept, order_id: Any) -> None:
    insend.purchase(order_id=order_id, revenue=1, visitor_uid="42")
    insend.custom(key="seen", properties={"order_id": order_id, "revenue": 5}, visitor_uid="42")
    purchase, custom = kept("v/42")
    assert purchase.facts.order == order_hash(json.loads(purchase.payload)["properties"]["order_id"])
    assert custom.facts == Facts(type_code=code_of("custom")), "only of a purchase and an order_update"


def test_a_type_of_ones_own_is_counted_with_all_others(insend: InSend, kept: Kept) -> None:
    insend.event("my_type", {"revenue": 5, "order_id": "1"}, visitor_uid="42", strict=False)
    (record,) = kept("v/42")
    assert record.facts == Facts(type_code=OTHER)


@given(
    st.floats(allow_nan=False, allow_infinity=False)
    | st.decimals(-(10**6), 10**14, allow_nan=False, places=6)
    | st.decimals(0, 10**12, allow_nan=False, places=2)
    | st.integers()
)
def test_a_payload_tells_of_its_revenue_what_its_producer_knew(revenue: Any) -> None:
    event = Event("purchase", {"order_id": "7", "revenue": revenue}, None, None, Visitor("42"))
    checked = VALIDATOR.check(event)
    assert checked.facts == facts_in(checked.payload)


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"properties":5}', b'{"type":null}', b'{"type":["a"]}'],
)
def test_a_payload_that_tells_nothing_has_no_facts(payload: bytes) -> None:
    assert facts_in(payload) == Facts()


LONG = "9" * 5_000  # more digits than Python reads as an int
NOT_COUNTED = ["NaN", "-Infinity", "1e999999999", "1e99999999999999999999", '"12,50"', "true", "[]", "1" * 5_000]


@pytest.mark.parametrize("number", NOT_COUNTED)
def test_a_number_that_only_json_of_others_has_is_unknown(number: str) -> None:
    payload = f'{{"type":"purchase","properties":{{"revenue":{number},"order_id":{LONG}}}}}'.encode()
    assert facts_in(payload) == Facts("event", code_of("purchase"), None, True, order_hash(LONG))


def test_numbers_as_text_are_read_as_other_clients_send_them() -> None:
    assert facts_in(b'{"type":"purchase","properties":{"revenue":"99.90"}}').revenue == 999_000
    assert facts_of("purchase", {"revenue": "99.90"}).revenue == 999_000


def test_an_invalid_events_letter_says_what_its_payload_tells(redis_url: str, namespace: str, outbox: Any) -> None:
    settings = Settings(
        app_key="shop",
        domain="shop.example.com",
        redis_url=redis_url,
        namespace=namespace,
        invalid="bury",
        enqueue_timeout_ms=10_000,
    )
    with InSend(settings=settings) as insend:
        insend.purchase(order_id="7", revenue="12,50", visitor_uid="42")  # type: ignore[arg-type]
    (letter,) = DeadLetters(outbox).scan()
    assert decode(letter.record).facts == Facts("event", code_of("purchase"), None, True, order_hash("7"))
