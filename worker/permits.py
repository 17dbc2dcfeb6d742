"""How many POSTs are under way in a process: a semaphore whose size changes while it is in use."""

from __future__ import annotations

from collections import deque

import gevent
from gevent.hub import Waiter

from insend_relay.worker.concurrency import Concurrency


class Permits:
    """As many as ``Concurrency`` has found right; used in one thread.

    No more lanes are claimed than there are permits left. A lane has its permit until its event is answered, not while
    that is settled: in that time another lane's event is on its way, so that neither the tracker nor Redis waits for
    the other. For what comes behind it in its lane it asks again.

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
        """How many lanes may be claimed."""
        return max(0, self._concurrency.limit - self._taken - len(self._waiting))

    @property
    def exhausted(self) -> bool:
        """Whether all are taken."""
        return self._taken >= self._concurrency.limit

    def take(self, number: int) -> int:
        """Take up to so many for lanes that were claimed; meanwhile others may have taken some of those left.

        Returns:
            How many there were.
        """
        granted = min(number, self.left)
        self._taken += granted
        return granted

    def acquire(self) -> None:
        """Take one, as soon as there is one; first come, first served."""
        if self._waiting or self.exhausted:
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
