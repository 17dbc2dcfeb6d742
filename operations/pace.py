"""The pace of a replay."""

from __future__ import annotations


class Pace:
    """A steady pace: it makes up for a timer that was late, and not for a stall, so there is never a burst.

    Args:
        per_second: Events per second.
        next_at: When the first may go, on the caller's clock, in seconds.
    """

    def __init__(self, per_second: float, next_at: float = 0.0) -> None:
        self._interval = 1 / per_second
        self._next = next_at

    def due_in(self, now: float) -> float:
        """How many seconds to wait before the next may go; 0 when it may go now."""
        return max(0.0, self._next - now)

    def took(self, now: float) -> None:
        """One has gone."""
        stalled = now - self._next > self._interval
        self._next = (now if stalled else self._next) + self._interval
