"""Fixtures for the producers' tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from insend_relay.outbox.keys import Lane
from insend_relay.outbox.record import Record, decode
from insend_relay.outbox.store import Outbox
from insend_relay.producers import InSend

APP = "test-app-key"


@pytest.fixture
def insend(redis_url: str, namespace: str) -> Iterator[InSend]:
    """An InSend of an account of its own."""
    patient_ms = 10_000  # a slow machine must not decide whether a test passes
    with InSend(
        app_key=APP,
        domain="shop.example.com",
        redis_url=redis_url,
        namespace=namespace,
        enqueue_timeout_ms=patient_ms,
    ) as insend:
        yield insend


@pytest.fixture
def kept(outbox: Outbox) -> Callable[[str], list[Record]]:
    """What waits in a visitor's lane, such as ``v/42`` or ``g/abc``, oldest first."""

    def read(lane: str) -> list[Record]:
        name = outbox.keys.lane(Lane.parse(f"{APP}/{lane}"))
        return [decode(data) for data in outbox.read("LRANGE", name, 0, -1)]

    return read
