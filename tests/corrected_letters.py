"""What the tests of ``insend dead edit`` share: an event that breaks a rule, the same corrected, and what waits."""

from __future__ import annotations

import json
import uuid
from typing import Any

from command_line import ALICE

from insend_relay.outbox.keys import Lane
from insend_relay.outbox.record import decode, new_id
from insend_relay.outbox.store import Outbox

STORED: dict[str, Any] = {
    "app_key": "shop",
    "domain": "shop.example.com",
    "type": "purchase",
    "visitor_uid": "alice",
    "visitor_info": {"email": "zoe@example.com"},
    "properties": {"order_id": "7", "revenue": "12,50"},
}
RIGHT: dict[str, Any] = {**STORED, "properties": {"order_id": "7", "revenue": 12.5}}


def invalid(outbox: Outbox, payload: Any = None, lane: Lane | None = ALICE) -> uuid.UUID:
    """An invalid event among the dead letters."""
    event_id = new_id()
    written = payload if isinstance(payload, bytes) else json.dumps(payload or STORED).encode()
    number = 'must be a number, not str; give Decimal("12.50") for "12,50"'
    faults = f"properties.revenue: {number}; properties.state: no such field"
    outbox.bury_invalid("shop", event_id, lane=lane, type="purchase", payload=written, faults=faults)
    return event_id


def waiting(outbox: Outbox, lane: Lane = ALICE) -> list[Any]:
    """The events that wait in a lane."""
    return [json.loads(decode(data).payload) for data in outbox.read("LRANGE", outbox.keys.lane(lane), 0, -1)]
