"""When the books have jumped back: Redis lost events that it had accepted, and what is left of them balances again.

FLUSHALL, an old RDB file, a restored backup or a failover to a replica that was behind: afterwards no recount finds
anything. Workers therefore remember the epoch of the data and the number of accepted events, and ``heartbeat.lua``
writes an entry when the epoch is another or the number is smaller. The latest 20 entries stay until an operator
acknowledges them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from insend_relay.outbox.store import Outbox

MOST = 20  # as in heartbeat.lua
_ENTRY = re.compile(r"(\d+) ([0-9a-f]+) ([0-9a-f]+) (\d+) (\d+) (-?\d+)\Z")


@dataclass(frozen=True, slots=True)
class Jump:
    """One jump of the books.

    Attributes:
        stored: As it is in Redis.
        at_ms: When a worker noticed it, on Redis's clock.
        accepted_before: Events accepted, as the workers last knew it.
        accepted_after: Events accepted when it was noticed.
        waiting_before: Events that waited before: at least these are lost, unless they had been delivered meanwhile.
    """

    stored: bytes
    at_ms: int
    accepted_before: int
    accepted_after: int
    waiting_before: int

    def as_dict(self) -> dict[str, Any]:
        """As in ``insend status --json``."""
        return {
            "at_ms": self.at_ms,
            "accepted_before": self.accepted_before,
            "accepted_after": self.accepted_after,
            "waiting_before": self.waiting_before,
        }


def read_jumps(outbox: Outbox) -> list[Jump]:
    """The jumps that no operator has acknowledged, the latest first."""
    entries = outbox.read("LRANGE", outbox.keys.jumps, 0, MOST - 1)
    return [_read(entry) for entry in entries]


def acknowledge(outbox: Outbox, jumps: Iterable[Jump]) -> int:
    """An operator has seen these jumps; returns how many of them were still there."""
    return sum(int(outbox.read("LREM", outbox.keys.jumps, 0, jump.stored)) for jump in jumps)


def _read(entry: bytes) -> Jump:
    found = _ENTRY.match(entry.decode(errors="replace"))
    if found is None:  # of a newer release, or written by hand
        return Jump(entry, 0, 0, 0, 0)
    at_ms, _, _, before, after, waiting = found.groups()
    return Jump(entry, int(at_ms), int(before), int(after), int(waiting))
