"""Events of more than 64 KB: what would make one fit, and ``INSEND_OVERSIZE=trim``."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from insend_relay.operations.dead import DeadLetters
from insend_relay.outbox.record import Record
from insend_relay.outbox.store import Outbox
from insend_relay.producers import InSend, InvalidEvent
from insend_relay.producers.json_writer import MAX_BYTES
from insend_relay.producers.salvage import salvage
from insend_relay.producers.validation import Checked, Event, Faulty, Validator
from insend_relay.producers.visitor import Visitor

Kept = Callable[[str], list[Record]]
ORDER = ("product_image_url", "product_url", "product_name")


def cart(count: int, **lengths: int) -> list[dict[str, Any]]:
    """Items whose fields are that many characters long; names are Cyrillic, so of twice as many bytes."""
    return [
        {
            "product_id": str(number),
            "qnt": 1,
            "price": 9.5,
            **{name: ("я" if name == "product_name" else "u") * length for name, length in lengths.items()},
        }
        for number in range(count)
    ]


def purchase(items: Any, **about: Any) -> Event:
    return Event("purchase", {"order_id": "1", "revenue": 5, "items": items}, None, None, Visitor("42"), **about)


def problem(event: Event, *, trim: bool = False) -> str:
    outcome = Validator("key", "shop.example.com", trim=trim).examine(event).outcome
    assert isinstance(outcome, Faulty)
    ((path, problem),) = outcome.faults
    assert path == "event"
    return problem


def size_without(items: list[dict[str, Any]], *names: str) -> int:
    """The payload's size, written by other means."""
    short = [{name: value for name, value in item.items() if name not in names} for item in items]
    data = {"app_key": "key", "visitor_uid": "42", "type": "purchase", "domain": "shop.example.com"}
    data["host"] = "shop.example.com"
    properties = {"order_id": "1", "revenue": 5, "items": short}
    return len(json.dumps({**data, "properties": properties}, ensure_ascii=False, separators=(",", ":")).encode())


@pytest.mark.parametrize(
    ("items", "fields"),
    [
        (cart(170, product_name=90, product_url=80, product_image_url=90), 1),
        (cart(170, product_name=90, product_url=300, product_image_url=90), 2),
        (cart(170, product_name=200, product_url=300, product_image_url=90), 3),
    ],
)
def test_the_fault_says_the_size_the_limit_and_the_fields_that_would_make_it_fit(items: Any, fields: int) -> None:
    names = ORDER[:fields]
    *most, last = names
    said = f"{', '.join(most)} and {last}" if most else last
    assert problem(purchase(items)) == (
        f"is {size_without(items):,} bytes; at most 65,536 are allowed; without {said} it is "
        f"{size_without(items, *names):,} and fits: leave that out, or set INSEND_OVERSIZE=trim"
    )


def test_only_fields_that_are_there_are_named() -> None:
    items = cart(170, product_name=200)
    assert "; without product_name it is " in problem(purchase(items))
    mixed = [*cart(1, product_image_url=10), *cart(170, product_name=200)]
    assert "; without product_image_url and product_name it is " in problem(purchase(mixed))


@pytest.mark.parametrize("trim", [False, True])
def test_where_no_field_makes_it_fit_the_fault_says_so(trim: bool) -> None:  # noqa: FBT001 - the example
    items = cart(1700, product_name=5, product_url=5)
    without = size_without(items, "product_name", "product_url")
    said = f"it is {without:,} even without product_url and product_name: send fewer items"
    assert problem(purchase(items), trim=trim).endswith(said)
    bare = cart(1700)
    assert problem(purchase(bare), trim=trim) == f"is {size_without(bare):,} bytes; at most 65,536 are allowed"
    many = cart(1800, product_name=1)
    assert problem(purchase(many), trim=trim).endswith("; at most 1,771 of the shortest items fit: send fewer items")


def test_a_cart_that_is_too_large_in_bytes_alone_is_measured_too() -> None:
    items = cart(200, product_name=200)
    characters = len(json.dumps(items, ensure_ascii=False, separators=(",", ":")))
    assert characters < MAX_BYTES < size_without(items)
    assert problem(purchase(items)).startswith(f"is {size_without(items):,} bytes")


def test_pictures_inside_their_urls_are_named_although_the_event_is_too_large_to_be_measured() -> None:
    items = cart(10, product_image_url=200_000)
    found = problem(purchase(items))
    assert found.startswith(
        "is larger than 131,072 bytes; at most 65,536 are allowed; without product_image_url it is "
    )
    assert "and fits" in found
    huge = [{**item, "product_id": "x" * 20_000} for item in items]
    assert problem(purchase(huge)).endswith("it is too large even without product_image_url: send fewer items")


def test_other_faults_of_an_event_that_is_too_large_are_not_lost() -> None:
    event = purchase(cart(10, product_image_url=200_000))._replace(attributes={"bad": {1}})
    outcome = Validator("key", "shop.example.com", trim=True).examine(event).outcome
    assert isinstance(outcome, Faulty)
    assert [path for path, _ in outcome.faults] == ["event", "attributes.bad"]
    missing = purchase([*cart(170, product_name=300), {"product_id": 1}])
    outcome = Validator("key", "shop.example.com", trim=True).examine(missing).outcome
    assert isinstance(outcome, Faulty)
    assert [path for path, _ in outcome.faults] == ["properties.items[170].qnt", "properties.items[170].price"]


def test_a_custom_events_own_fields_are_never_dropped() -> None:
    event = Event("custom", {"key": "k", "product_name": "x" * 70_000}, None, None, Visitor("42"))
    assert problem(event, trim=True).endswith("at most 65,536 are allowed")


@pytest.mark.parametrize("type_", ["purchase", "order_update", "update_cart"])
@pytest.mark.parametrize(("lengths", "gone"), [((90, 80, 90), 1), ((90, 300, 90), 2), ((200, 300, 90), 3)])
def test_trim_drops_image_urls_then_urls_then_names_and_no_more_than_needed(
    type_: str, lengths: tuple[int, int, int], gone: int
) -> None:
    name, url, image = lengths
    items = cart(170, product_name=name, product_url=url, product_image_url=image)
    required: dict[str, Any] = {
        "purchase": {"order_id": "1", "revenue": 5},
        "order_update": {"order_id": "1", "state": "paid"},
    }
    event = Event(type_, {**required.get(type_, {}), "items": iter(items)}, None, None, Visitor("42"))
    examined = Validator("key", "shop.example.com", trim=True).examine(event)
    assert isinstance(examined.outcome, Checked)
    found = json.loads(examined.outcome.payload)["properties"]
    expected = [{name: value for name, value in item.items() if name not in ORDER[:gone]} for item in items]
    assert found == {**required.get(type_, {}), "items": expected}
    assert [(drop.field, drop.times) for drop in examined.dropped] == [(field, 170) for field in ORDER[:gone]]


def test_trim_drops_the_picture_of_a_single_product() -> None:
    properties = {"product_id": "1", "product_image_url": "data:" + "x" * 70_000, "product_name": "Boots"}
    event = Event("view_product", properties, None, None, Visitor("42"))
    examined = Validator("key", "shop.example.com", trim=True).examine(event)
    assert isinstance(examined.outcome, Checked)
    assert json.loads(examined.outcome.payload)["properties"] == {"product_id": "1", "product_name": "Boots"}


def test_what_fits_is_not_trimmed(redis_url: str, namespace: str, kept: Kept) -> None:
    items = cart(100, product_name=100, product_url=100, product_image_url=100)
    with trimming(redis_url, namespace) as insend:
        insend.update_cart(items=items, visitor_uid=42)  # type: ignore[arg-type]
    assert json.loads(kept("v/42")[0].payload)["properties"]["items"] == items


def trimming(redis_url: str, namespace: str) -> InSend:
    account: dict[str, Any] = {"app_key": "test-app-key", "domain": "shop.example.com", "enqueue_timeout_ms": 10_000}
    return InSend(**account, redis_url=redis_url, namespace=namespace, oversize="trim")


def test_trim_sends_the_event_and_logs_what_it_left_out(
    redis_url: str, namespace: str, kept: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    items = cart(170, product_name=90, product_url=300, product_image_url=90)
    with trimming(redis_url, namespace) as insend, caplog.at_level(logging.WARNING):
        receipt = insend.purchase(order_id=1, revenue=5, items=items, visitor_uid=42)  # type: ignore[arg-type]
    assert receipt.where == "redis"
    assert len(kept("v/42")[0].payload) <= MAX_BYTES
    (line,) = [record.getMessage() for record in caplog.records if record.name == "insend_relay.producers"]
    assert line == (
        f"event {receipt.id} (purchase) was larger than 65,536 bytes and is sent without product_image_url (170), "
        "product_url (170)"
    )


def test_without_trim_it_is_refused_and_its_letter_is_whole(redis_url: str, namespace: str, outbox: Outbox) -> None:
    items = cart(170, product_name=90, product_url=300, product_image_url=90)
    account: dict[str, Any] = {"app_key": "test-app-key", "domain": "shop.example.com", "enqueue_timeout_ms": 10_000}
    with InSend(**account, redis_url=redis_url, namespace=namespace) as insend, pytest.raises(InvalidEvent):
        insend.purchase(order_id=1, revenue=5, items=items, visitor_uid=42)  # type: ignore[arg-type]
    with InSend(**account, redis_url=redis_url, namespace=namespace, invalid="bury") as insend:
        assert insend.purchase(order_id=1, revenue=5, items=items, visitor_uid=42).where == "invalid"  # type: ignore[arg-type]
    (letter,) = DeadLetters(outbox).scan()
    assert json.loads(letter.payload)["properties"]["items"] == items
    assert json.loads(salvage({"items": items}))["items"] == items
