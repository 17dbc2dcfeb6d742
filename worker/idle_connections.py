"""The open connections to the tracker that no POST uses at the moment.

A NAT gateway, a firewall or a load balancer forgets a connection without a word after some idle time, and a POST on
such a connection gets no answer. So a connection is used again only for a limited time:

    idle for 50 s at most        common front ends close or forget after 60 s
    or what the server allows    ``Keep-Alive: timeout=N`` in an answer: N - 1 seconds
    for 4 to 6 minutes in all    so that a DNS name that points to another address is followed; drawn at random for each
                                 connection, so that those of a burst do not all end at the same moment

A timer closes the connections that nothing uses any more, so that after a burst the tracker does not hold them for
hours. All of it happens in one thread, the one whose greenlets post.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import gevent

MAX_IDLE_SECONDS = 50.0
MAX_AGE_SECONDS = 300.0
AGE_SPREAD = 0.2  # the age of a connection differs from MAX_AGE_SECONDS by up to this share
SWEEP_SECONDS = 10.0  # between two looks for connections that have been idle for too long


class Reusable(Protocol):
    """What a connection must know and can do to be kept here; see ``adapter.Cooperative``."""

    idle_seconds: float
    expires_at: float
    answered_at: float

    @property
    def is_connected(self) -> bool:
        """Whether nothing has come since the last answer; the end of the connection counts as something."""

    def close(self) -> None:
        """Close it."""


class IdleConnections:
    """A stack: the connection that was used last is used next, so that the others grow old and are closed.

    Args:
        room: How many are kept.
        clock: Seconds; never goes backwards.

    Attributes:
        answered_at: When the last answer came on any of them.
    """

    def __init__(self, room: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._room = room
        self._clock = clock
        self._idle: deque[Any] = deque()  # in the order of their last answers
        self._sweeper: Any = None
        self.answered_at = 0.0

    def __len__(self) -> int:
        return len(self._idle)

    def take(self, now: float) -> Any:
        """The connection that was used last, if it may still be used; None when there is none.

        Args:
            now: By the clock.
        """
        while self._idle:
            connection = self._idle.pop()
            if (
                now - connection.answered_at < connection.idle_seconds
                and now < connection.expires_at
                and connection.is_connected
            ):
                return connection
            connection.close()
        return None

    def put(self, connection: Reusable, allowed_seconds: float | None) -> None:
        """Keep a connection whose POST has been answered.

        Args:
            connection: The connection.
            allowed_seconds: For how long the server allows it to be idle, when the answer says so.
        """
        self.answered_at = connection.answered_at = self._clock()
        if allowed_seconds is not None:
            connection.idle_seconds = min(MAX_IDLE_SECONDS, allowed_seconds)
        if connection.idle_seconds and len(self._idle) < self._room:
            self._idle.append(connection)
            if self._sweeper is None:
                self._start_sweeper()
        else:
            connection.close()

    def drop_unanswered_since(self, moment: float) -> None:
        """Close the connections that have had no answer since then: a POST that began at that moment got none.

        Something between the tracker and us may have forgotten them all. Those that have had an answer meanwhile stay:
        a tracker that is merely slow is not to be asked for new connections at each time-out.

        Args:
            moment: By the clock.
        """
        while self._idle and self._idle[0].answered_at < moment:
            self._idle.popleft().close()

    def sweep(self) -> None:
        """Close those that may not be used any more."""
        now = self._clock()
        for _ in range(len(self._idle)):
            connection = self._idle.popleft()
            if now - connection.answered_at < connection.idle_seconds and now < connection.expires_at:
                self._idle.append(connection)
            else:
                connection.close()
        if not self._idle:
            self._stop_sweeper()

    def close(self) -> None:
        """Close all of them."""
        while self._idle:
            self._idle.pop().close()
        self._stop_sweeper()

    def _start_sweeper(self) -> None:
        self._sweeper = gevent.get_hub().loop.timer(SWEEP_SECONDS, SWEEP_SECONDS, ref=False)
        self._sweeper.start(self.sweep)

    def _stop_sweeper(self) -> None:
        if self._sweeper is not None:
            self._sweeper.stop()
            self._sweeper.close()
            self._sweeper = None


def expires_at(now: float) -> float:
    """Until when a connection that is opened now may be used."""
    return now + MAX_AGE_SECONDS * random.uniform(1 - AGE_SPREAD, 1 + AGE_SPREAD)  # noqa: S311 - no secret
