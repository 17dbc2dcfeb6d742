"""How long the memory of Redis lasts, by what waits and how fast that grows."""

from __future__ import annotations

from insend_relay.outbox.errors import OutboxRefused
from insend_relay.outbox.store import Outbox

OVERHEAD_BYTES = 340  # beside its record, of a visitor's only event, as measured in Redis 6.2; 191 in Valkey 8.1
ENOUGH_WAITING = 100  # below this the growth of a few minutes says nothing


def read_headroom(outbox: Outbox) -> int | None:
    """How many bytes Redis may still take; None without a maxmemory, and where our user may not ask."""
    try:
        reply = outbox.read("INFO", "memory")
    except OutboxRefused:  # a hosted Redis may forbid it
        return None
    if not isinstance(reply, dict):
        lines = bytes(reply).decode().splitlines()
        reply = dict(line.split(":", 1) for line in lines if ":" in line)
    most = int(reply.get("maxmemory", 0))
    return max(0, most - int(reply["used_memory"])) if most else None


def full_in(headroom: int | None, grown_per_second: float, heads: list[bytes], waiting: int) -> float | None:
    """In how many seconds the headroom is used up, by the records at hand; None when that cannot be told."""
    if headroom is None or grown_per_second <= 0 or waiting <= ENOUGH_WAITING or not heads:
        return None
    each = sum(map(len, heads)) / len(heads) + OVERHEAD_BYTES
    return headroom / (grown_per_second * each)
