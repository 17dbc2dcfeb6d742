"""How many POSTs are under way in a process: a semaphore whose size changes while it is in use."""

from __future__ import annotations

from collections import deque

import gevent
from gevent.hub import Waiter

from insend_relay.worker.concurrency import Concurrency


class Permits:
    """As many as ``Concurrency`` has found right; used in one thread.

    A lane needs one from before a POST until its answer, not while its event is settled: in that time another lane's
    event is on its way, so that neither the tracker nor Redis waits for the other.

    Args:
        concurrency: Their number.
    """

    def __init__(self, concurrency: Concurrency) -> None:
        self._concurrency = concurrency
        self._loop = gevent.get_hub().loop
        self._waiting: deque[Waiter] = deque()
        self._taken = 0

    @property
    def left(self) -> int:
        """How many more lanes would get one at once."""
        return max(0, self._concurrency.limit - self._taken - len(self._waiting))

    @property
    def exhausted(self) -> bool:
        """Whether all are taken."""
        return self._taken >= self._concurrency.limit

    def acquire(self) -> None:
        """Take one; first come, first served."""
        if self.exhausted:
            waiter = Waiter()
            self._waiting.append(waiter)
            waiter.get()
        else:
            self._taken += 1

    def release(self) -> None:
        """Give it back."""
        self._taken -= 1
        while self._waiting and not self.exhausted:
            self._taken += 1
            self._loop.run_callback(self._waiting.popleft().switch, None)
