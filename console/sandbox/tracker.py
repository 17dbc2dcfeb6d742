"""The tracker that the sandbox plays: judges each event, misbehaves when told to, remembers what came.

Knows no sockets: a request goes in, an Answer comes out, and the record is made between the two. So an event stands in
the record from the moment it was read whole, which may be long before its answer has been sent.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, fields
from http import HTTPStatus
from typing import Any

from insend_relay.console.sandbox.contract import Judgement, judge
from insend_relay.console.sandbox.misbehaviour import Misbehaviour
from insend_relay.console.sandbox.server import Answer, Request

_WELL_BEHAVED = Misbehaviour()


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request for the tracker.

    Attributes:
        ordinal: Its place among all requests, from 1.
        connection: Which connection it came by, from 1 in the order of connecting.
        arrived_at: When it had been read whole, seconds since the epoch.
        status: What it is answered; None where the connection is closed instead.
        visitor_uid: The visitor's uid in the form; "" if there is none.
        guest_uid: The guest's uid in the form; "" if there is none.
        type: The event type; "" if it is none of the tracker's.
        properties: The event's own fields.
        data: The whole data object, decoded; empty if it could not be read. ``fields["data"]`` has it as it was sent.
        fields: The form fields.
        faults: Why the contract refuses it, a sentence each; none if it is a right request.
    """

    ordinal: int
    connection: int
    arrived_at: float
    status: int | None
    visitor_uid: str
    guest_uid: str
    type: str
    properties: dict[str, Any]
    data: dict[str, Any]
    fields: dict[str, str]
    faults: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(slots=True)
class _Order:
    """A misbehaviour that we were told, and how often it has been done."""

    misbehaviour: Misbehaviour
    done: int = 0


class Tracker:
    """Takes events as the vendor's tracker would; what it has taken may be read from any thread.

    Args:
        keep: How many of the newest requests, and of the newest accepted ones, are remembered.
        on_event: Called with each request once it is recorded, before it is answered.
    """

    def __init__(self, *, keep: int, on_event: Callable[[Received], None] | None) -> None:
        self._lock = threading.Lock()
        self._on_event = on_event
        self._orders: list[_Order] = []  # the latest first
        self._requests: deque[Received] = deque(maxlen=keep)
        self._received: deque[Received] = deque(maxlen=keep)
        self._counts: Counter[int | None] = Counter()

    def take(self, request: Request) -> Answer:
        """Judge and record a POST to the tracker's address, and say what to answer."""
        arrived_at = time.time()
        judged = judge(request.query, request.content_type, request.body)
        with self._lock:
            misbehaviour = self._misbehaviour_for(judged)
            status = _status(judged, misbehaviour)
            received = Received(
                ordinal=self._counts.total() + 1,
                connection=request.connection,
                arrived_at=arrived_at,
                status=status,
                visitor_uid=judged.fields.get("visitor_uid", ""),
                guest_uid=judged.fields.get("guest_uid", ""),
                type=judged.type,
                properties=judged.properties,
                data=judged.data,
                fields=judged.fields,
                faults=judged.faults,
            )
            self._counts[status] += 1
            self._requests.append(received)
            if status == HTTPStatus.OK:
                self._received.append(received)
        if self._on_event is not None:
            self._on_event(received)
        return _answer(received, misbehaviour)

    def misbehave(self, misbehaviour: Misbehaviour) -> None:
        """From now on treat the events that it concerns so; the latest word on an event counts."""
        with self._lock:
            self._orders.insert(0, _Order(misbehaviour))

    def behave(self) -> None:
        """Forget every misbehaviour."""
        with self._lock:
            self._orders.clear()

    def clear(self) -> None:
        """Forget every request, and count from 1 again."""
        with self._lock:
            self._requests.clear()
            self._received.clear()
            self._counts.clear()

    def requests(self) -> list[Received]:
        """The newest requests, whatever they were answered, in order of arrival."""
        with self._lock:
            return list(self._requests)

    def received(self) -> list[Received]:
        """The newest requests that were answered 200, in order of arrival."""
        with self._lock:
            return list(self._received)

    def totals(self) -> dict[str, int]:
        """How many came since the start or the last clear: in all, and by what they were answered."""
        with self._lock:
            counts = {"closed" if status is None else str(status): n for status, n in self._counts.items()}
            return {"requests": self._counts.total(), **dict(sorted(counts.items()))}

    def misbehaving(self) -> list[dict[str, object]]:
        """What it has been told, the latest first, with how often each has been done."""
        with self._lock:
            return [{**order.misbehaviour.as_dict(), "done": order.done} for order in self._orders]

    def _misbehaviour_for(self, judged: Judgement) -> Misbehaviour:
        """The latest misbehaviour that concerns this event, counted as done once more."""
        visitor_uid, guest_uid = judged.fields.get("visitor_uid", ""), judged.fields.get("guest_uid", "")
        for order in self._orders:
            if order.misbehaviour.concerns(visitor_uid, guest_uid, judged.type):
                order.done += 1
                if order.done == order.misbehaviour.times:
                    self._orders.remove(order)
                return order.misbehaviour
        return _WELL_BEHAVED


def _status(judged: Judgement, misbehaviour: Misbehaviour) -> int | None:
    if misbehaviour.close:
        return None
    if misbehaviour.status is not None:
        return misbehaviour.status
    return 400 if judged.faults else 200


def _answer(received: Received, misbehaviour: Misbehaviour) -> Answer:
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    if misbehaviour.retry_after is not None:
        headers["Retry-After"] = str(misbehaviour.retry_after)
    if misbehaviour.status is not None:
        text = "the sandbox was told to answer so"
    else:
        text = "\n".join(received.faults) or "OK"
    return Answer(
        status=received.status or 200,
        body=f"{text}\n".encode(),
        headers=headers,
        delay=misbehaviour.delay,
        drip=misbehaviour.drip,
        close=misbehaviour.close,
    )
