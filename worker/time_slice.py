"""The time in which a delivery may begin further lanes and events."""

from __future__ import annotations

import time

from insend_relay.worker.stop import Stop


class TimeSlice:
    """The slices of one process, one after the other.

    Args:
        stop: The process's stop request, which ends a slice.
    """

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._ends = 0.0

    def begin(self, seconds: float) -> None:
        """A slice of so many seconds begins."""
        self._ends = time.monotonic() + seconds

    @property
    def over(self) -> bool:
        """Whether nothing further may begin."""
        return self._stop.asked or time.monotonic() >= self._ends
