"""Each event type's payload, byte for byte, in all three ways of calling."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from insend_relay.console.sandbox.contract import judge
from insend_relay.console.sandbox.quickstart import examples
from insend_relay.outbox.record import Record
from insend_relay.producers import InSend
from insend_relay.producers.event_types import STRICT

GOLDEN = Path(__file__).parent / "golden"
EXAMPLES = examples()
ORDER_UPDATE = {
    "type": "order_update",
    "properties": {
        "order_id": "12345",
        "state": "shipped",
        "revenue": 99.99,
        "items": [{"product_id": "1", "qnt": 1, "price": 125.15}],
    },
}
PAGE = {
    "url": "https://shop.example.com:8443/p/1?a=%D1%8F",
    "path": "/p/1",
    "title": 'Сапоги "Зима" — 45',
    "referrer": "https://example.net/",
}
BOTH = {"visitor_uid": "42", "guest_uid": "Guest_1.a-b"}
Kept = Callable[[str], list[Record]]
Call = Callable[[InSend, dict[str, Any], dict[str, Any]], object]


def about(event_type: str) -> dict[str, Any]:
    """Who and where each golden event is."""
    if event_type in {"purchase", "order_update"}:  # the vendor's own client sends these without a page
        return {"visitor_uid": "42"}
    who = {"guest_uid": "Guest_1.a-b"} if event_type == "link" else BOTH
    return {**who, **PAGE, **({"attributes": {"source": "app"}} if event_type == "custom" else {})}


def by_method(insend: InSend, event: dict[str, Any], said: dict[str, Any]) -> object:
    method = getattr(insend, event["type"])
    return method(**event["properties"], visitor_info=event.get("visitor_info"), **said)


def by_event(insend: InSend, event: dict[str, Any], said: dict[str, Any]) -> object:
    return insend.event(event["type"], event["properties"], event.get("visitor_info"), **said)


def by_javascript(insend: InSend, event: dict[str, Any], said: dict[str, Any]) -> object:
    outer = {name: said.pop(name) for name in list(said) if name != "attributes"}
    with insend.visitor(**outer):
        return insend("event", event["type"], event["properties"], event.get("visitor_info", {}), **said)


@pytest.mark.parametrize("call", [by_method, by_event, by_javascript])
@pytest.mark.parametrize("event", [*EXAMPLES, ORDER_UPDATE], ids=lambda event: str(event["type"]))
def test_the_payload_is_the_golden_file(insend: InSend, kept: Kept, event: dict[str, Any], call: Call) -> None:
    said = about(event["type"])
    lane = f"v/{said['visitor_uid']}" if "visitor_uid" in said else f"g/{said['guest_uid']}"
    before = json.dumps(event)

    call(insend, event, said)

    (record,) = kept(lane)
    assert record.payload == (GOLDEN / f"{event['type']}.json").read_bytes()
    assert json.dumps(event) == before, "the caller's own data was changed"


def test_the_shipped_examples_are_the_ten_of_the_seed() -> None:
    assert {event["type"] for event in EXAMPLES} == set(STRICT) - {"order_update"}
    assert len(EXAMPLES) == 10


def test_there_is_a_golden_file_for_every_event_type() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(STRICT)


@pytest.mark.parametrize("path", sorted(GOLDEN.iterdir()), ids=lambda path: str(path.stem))
def test_the_sandbox_which_was_written_apart_from_us_takes_every_golden_payload(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    data = json.loads(text)
    form = {name: data[name] for name in ("app_key", "visitor_uid", "guest_uid") if name in data}
    judgement = judge("", "application/x-www-form-urlencoded", urlencode({**form, "data": text}).encode())
    assert judgement.faults == ()
