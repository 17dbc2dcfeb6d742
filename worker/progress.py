"""When each part of a worker last made progress, in memory that its processes share since they were forked.

A part is the pump, or the delivery of one process. It stamps a slot of the page at each step of its loop; nothing is
locked, and a stamp costs under a microsecond. The main process reads the page for ``insend health`` and for systemd's
watchdog. A delivery that has nothing to do is idle, which is no lack of progress.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Iterator

_SLOT = struct.Struct("=qd")  # process id, moment of the last step on the monotonic clock; 0 while idle
_PUMP, _MAIN, _POOL = 0, 1, 2  # the first slots
MOST_PROCESSES = 1_024  # of a pool; further ones are not followed


class Track:
    """The slot of one part.

    Args:
        page: The shared memory.
        offset: Where the slot begins.
    """

    def __init__(self, page: mmap.mmap, offset: int) -> None:
        self._page = page
        self._offset = offset
        self._pid = os.getpid()

    def step(self) -> None:
        """This part goes on."""
        _SLOT.pack_into(self._page, self._offset, self._pid, time.monotonic())

    def idle(self) -> None:
        """This part has nothing to do."""
        _SLOT.pack_into(self._page, self._offset, self._pid, 0.0)


class Progress:
    """The page of one worker; made in its main process before the pool is forked."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, _SLOT.size * (_POOL + MOST_PROCESSES))

    def pump(self) -> Track:
        """The pump's slot."""
        return self._track(_PUMP)

    def delivery(self, pool_index: int | None) -> Track:
        """The slot of the delivery in this process.

        Args:
            pool_index: The process's number in its pool; None in the main process.
        """
        if pool_index is None:
            return self._track(_MAIN)
        if pool_index < MOST_PROCESSES:
            return self._track(_POOL + pool_index)
        return Track(mmap.mmap(-1, _SLOT.size), 0)

    def _track(self, slot: int) -> Track:
        return Track(self._page, slot * _SLOT.size)

    @property
    def pump_seconds(self) -> float:
        """How long ago the pump made its last step; 0 before its first."""
        _, at = _SLOT.unpack_from(self._page, _PUMP * _SLOT.size)
        return max(0.0, time.monotonic() - at) if at else 0.0

    def delivery_seconds(self) -> dict[int, float]:
        """Process id -> how long ago its delivery made its last step, for those that are not idle."""
        return dict(self._delivering())

    def _delivering(self) -> Iterator[tuple[int, float]]:
        now = time.monotonic()
        for pid, at in _SLOT.iter_unpack(self._page[_MAIN * _SLOT.size :]):
            if at and _lives(pid):  # a process that was killed leaves its last stamp
                yield pid, max(0.0, now - at)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
