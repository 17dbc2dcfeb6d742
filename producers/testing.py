"""For an application's own tests: what it sent, without a Redis.

With pytest the fixture ``insend_events`` is there as soon as insend-relay is installed::

    def test_an_order_is_reported(client, insend_events):
        client.post("/order")
        assert insend_events.of("purchase")[0].properties["order_id"] == "1042"

Elsewhere ``with recording() as events:`` does the same. While it lasts every InSend of the process records, whatever
its settings, and a bad event raises InvalidEvent.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from insend_relay.outbox.entry import Appended, Entry
from insend_relay.outbox.masked import masked
from insend_relay.producers.producer import Plan, Producer
from insend_relay.producers.receipt import Receipt, Where


@masked("type", "where")
@dataclass(frozen=True, slots=True)
class SentEvent:
    """An event as the tracker would get it; what it does not carry is None or empty.

    Attributes:
        type: The event type; so on with the other names of the data object.
        where: ``redis``: it would have been kept. ``no_visitor`` and ``opted_out`` would not.
        idempotency_key: The caller's name for it.
        data: The whole data object.
    """

    type: str
    where: Where
    visitor_uid: str | None
    guest_uid: str | None
    properties: dict[str, Any]
    visitor_info: dict[str, Any]
    attributes: dict[str, Any]
    url: str | None
    path: str | None
    title: str | None
    referrer: str | None
    host: str | None
    idempotency_key: str | None
    data: dict[str, Any] = field(repr=False)


class RecordedEvents:
    """What was sent since the recording began.

    Attributes:
        sent: The events that would have been kept, in the order of their calls.
        not_sent: Those of opted-out visitors and of nobody.
    """

    def __init__(self) -> None:
        self.sent: list[SentEvent] = []
        self.not_sent: list[SentEvent] = []
        self._first: dict[tuple[str, str], tuple[uuid.UUID, bytes]] = {}  # id and digest, by app and dedup key

    def of(self, type: str) -> list[SentEvent]:
        """The sent events of one type."""
        return [event for event in self.sent if event.type == type]

    @property
    def types(self) -> list[str]:
        """The types of the sent events, in order."""
        return [event.type for event in self.sent]

    def clear(self) -> None:
        """Forget what was recorded so far."""
        self.sent.clear()
        self.not_sent.clear()
        self._first.clear()

    def record(self, plan: Plan, idempotency_key: str | None) -> Receipt:
        """Take one event; a second one of the same idempotency key is a duplicate."""
        event = _sent(plan, idempotency_key)
        if plan.entry is None:
            self.not_sent.append(event)
            return plan.not_kept()
        first, mismatch = plan.id, False
        if isinstance(plan.entry, Entry) and plan.entry.once_key:
            digest = plan.entry.once_digest
            first, content = self._first.setdefault((plan.entry.lane.app, plan.entry.once_key), (plan.id, digest))
            mismatch = content != digest
        if first == plan.id:
            self.sent.append(event)
        return plan.kept(Appended(first, duplicate=first != plan.id, mismatch=mismatch))

    def __len__(self) -> int:
        return len(self.sent)

    def __iter__(self) -> Iterator[SentEvent]:
        return iter(self.sent)

    def __repr__(self) -> str:
        left_out = "".join(f", {event.type} ({event.where})" for event in self.not_sent)
        return f"<sent: {', '.join(self.types) or 'nothing'}; not sent: {left_out[2:] or 'nothing'}>"


@contextmanager
def recording() -> Iterator[RecordedEvents]:
    """Record the events of every InSend in this process instead of keeping them in Redis."""
    outer, events = Producer.recorder, RecordedEvents()
    Producer.recorder = events
    try:
        yield events
    finally:
        Producer.recorder = outer


def _sent(plan: Plan, idempotency_key: str | None) -> SentEvent:
    data = json.loads(plan.payload)
    return SentEvent(
        type=data["type"],
        where=plan.where,
        visitor_uid=data.get("visitor_uid"),
        guest_uid=data.get("guest_uid"),
        properties=data["properties"],
        visitor_info=data.get("visitor_info", {}),
        attributes=data.get("attributes", {}),
        url=data.get("url"),
        path=data.get("path"),
        title=data.get("title"),
        referrer=data.get("referrer"),
        host=data.get("host"),
        idempotency_key=idempotency_key,
        data=data,
    )
