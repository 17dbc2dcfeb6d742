"""When a process dials the tracker again after it could open no connection and holds none.

A tracker that limits the connections of an address may give all of them to other processes of the same machine. Those
processes deliver, so this process waits longer after each refusal, and its first answer on a new connection resets the
wait. In an outage the wait stays short: there the circuit breaker decides when an event is sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable

FIRST_SECONDS = 0.25
MAX_SECONDS = 5.0


class Redial:
    """The wait of one process.

    Args:
        clock: Seconds; never goes backwards.

    Attributes:
        at: Until then no event should be claimed, by the clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wait = FIRST_SECONDS
        self._doubled_until = 0.0
        self.at = 0.0

    def failed(self) -> None:
        """No connection could be opened, and none is open."""
        self.at = max(self.at, self._clock() + FIRST_SECONDS)

    def others_deliver(self) -> bool:
        """No connection could be opened while another process delivers: double the wait, once for each burst of dials.

        Returns:
            Whether the wait has become the longest with this call; so a state that lasts is logged once.
        """
        now = self._clock()
        if now < self._doubled_until:
            return False
        was, self._wait = self._wait, min(2 * self._wait, MAX_SECONDS)
        self.at = self._doubled_until = now + self._wait
        return was < self._wait == MAX_SECONDS

    def worked(self) -> None:
        """A new connection has brought an answer."""
        self._wait = FIRST_SECONDS
        self.at = self._doubled_until = 0.0
