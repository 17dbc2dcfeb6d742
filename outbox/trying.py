"""What is known of a head that has been tried: how often, since when, and how the last attempt ended.

Stored for a lane only while its head is in trouble. 36 bytes, big-endian, and a text: event id (16), attempts counted
(2), starts abandoned by a worker that died (2), first and last attempt in ms (8 + 8), the last outcome in UTF-8.
``claim.lua`` and ``fail.lua`` change the two counts in place.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Self

_FORMAT = struct.Struct(">16sHHQQ")
_MOST = 0xFFFF


@dataclass(frozen=True, slots=True)
class Tried:
    """The attempts on a head so far.

    Attributes:
        id: The event's id.
        attempts: Attempts that count against the retry policy.
        abandoned: Starts whose worker never said how they ended.
        first_at_ms: The first attempt, on Redis's clock; 0 before any.
        last_at_ms: The last one.
        outcome: How the last one ended, such as "answered 503: try later".
    """

    id: bytes
    attempts: int = 0
    abandoned: int = 0
    first_at_ms: int = 0
    last_at_ms: int = 0
    outcome: str = ""

    @property
    def starts(self) -> int:
        """How often the event was sent, as far as is known: an abandoned start may have been."""
        return self.attempts + self.abandoned

    def pack(self) -> bytes:
        """As it is stored."""
        counts = min(self.attempts, _MOST), min(self.abandoned, _MOST)
        return _FORMAT.pack(self.id, *counts, self.first_at_ms, self.last_at_ms) + self.outcome.encode()

    @classmethod
    def unpack(cls, data: bytes, event_id: bytes) -> Self:
        """Read what is stored for a lane; what belongs to another event than ``event_id`` counts as nothing."""
        if len(data) < _FORMAT.size or data[:16] != event_id:
            return cls(event_id)
        _, attempts, abandoned, first_at_ms, last_at_ms = _FORMAT.unpack_from(data)
        return cls(
            event_id, attempts, abandoned, first_at_ms, last_at_ms, data[_FORMAT.size :].decode(errors="replace")
        )
