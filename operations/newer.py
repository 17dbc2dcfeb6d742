"""Events whose records only a newer release can read: a claim leaves them to its workers (``lua/shared/newer.lua``)."""

from __future__ import annotations

from dataclasses import dataclass

from insend_relay.outbox.heartbeat import Workers
from insend_relay.outbox.store import Outbox

NEWER_LOOKED_AT = 100  # lanes that claims have left to a newer worker


@dataclass(frozen=True, slots=True)
class Newer:
    """Events that a newer release wrote, and that no worker that is alive can read.

    Attributes:
        lanes: How many visitors have such an event as their first one.
        seconds: The age of the oldest of those that were looked at.
        version: The highest version of their records.
    """

    lanes: int
    seconds: float
    version: int


def read_newer(outbox: Outbox, workers: Workers, now_ms: int) -> Newer | None:
    """What only a newer worker can read. A lane that a claim has met may be empty by now, or such a worker alive."""
    newer = outbox.keys.newer
    met = [name.decode() for name in outbox.read("ZREVRANGE", newer, 0, NEWER_LOOKED_AT - 1)] if workers.alive else []
    heads = [outbox.read("LINDEX", outbox.keys.lane(lane), 0) or b"" for lane in met]
    unread = [head for head in heads if unread_version(head, workers)]
    if not unread:
        return None
    oldest = min(int.from_bytes(head[9:17]) for head in unread)
    lanes = max(len(unread), int(outbox.read("ZCARD", newer)) - (len(met) - len(unread)))
    return Newer(lanes, max(0, now_ms - oldest) / 1000, max(head[0] for head in unread))


def unread_version(head: bytes, workers: Workers) -> int | None:
    """The version of a record that no worker that is alive can read; None when one can, or when none is alive."""
    return head[0] if head and workers.alive and head[0] > workers.reads else None
