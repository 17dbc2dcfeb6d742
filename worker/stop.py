"""The wish to stop, told to everything that delivers.

Two steps: once asked, no further POST starts; when ``seconds`` have passed and some are still under way, the one who
runs the delivery cuts them, and their outcome is unknown.

The main process of a worker asks for itself and for its pool's processes at once, through a page of memory that they
share with it since they were forked: a signal would kill those that have nothing to do.
"""

from __future__ import annotations

import mmap
import time


class Everyone:
    """Asks all processes forked from this one, and this one."""

    def __init__(self) -> None:
        self._page = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("d")

    def ask(self) -> None:
        """Stop soon; safe in a signal handler."""
        if not self.asked_at:
            self._page[0] = time.monotonic()

    @property
    def asked_at(self) -> float:
        """When they were asked, on the monotonic clock, which all processes share; 0 when they were not."""
        return self._page[0]


class Stop:
    """One process's view: asked for itself, or with everyone.

    Args:
        seconds: How long POSTs under way may take from the moment of asking.
        everyone: The wish that it shares with others.
    """

    def __init__(self, seconds: float, everyone: Everyone | None = None) -> None:
        self._seconds = seconds
        self._everyone = everyone or Everyone()
        self._asked_at = 0.0

    def ask(self) -> None:
        """Stop soon; safe in a signal handler."""
        self._asked_at = self._asked_at or self._everyone.asked_at or time.monotonic()

    def clear(self) -> None:
        """This process goes on after all, unless everyone was asked."""
        self._asked_at = 0.0

    @property
    def asked(self) -> bool:
        """Whether no further POST may start."""
        return bool(self._asked_at or self._everyone.asked_at)

    @property
    def overdue(self) -> bool:
        """Whether the grace period is over."""
        asked_at = self._asked_at or self._everyone.asked_at
        return bool(asked_at) and time.monotonic() - asked_at > self._seconds
