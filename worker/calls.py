"""The calls to the tracker that are in flight in one thread: each has a deadline, and all can be cut at shutdown.

All have the same time limit. So they reach their deadlines in the order in which they began, and one timer, set for the
oldest call, serves all of them: a timer for each would cost 2 us.
"""

from __future__ import annotations

import time
from typing import Any, Self

import gevent

from insend_relay.worker.exchange import Ended
from insend_relay.worker.outcome import CUT

LATE = "late"


class Calls:
    """Those of one thread.

    Args:
        seconds: The deadline of each, from its beginning.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._in_flight: dict[Call, None] = {}  # in the order in which they began
        self._timer: Any = None  # set while a call is in flight, and until it next goes off

    def call(self) -> Call:
        """A call that begins now, in this greenlet, when its block is entered."""
        return Call(self)

    def cut(self) -> None:
        """End all of them; to be called in another greenlet of their thread."""
        for call in self._in_flight:
            gevent.get_hub().loop.run_callback(call.end, CUT)

    def close(self) -> None:
        """Nothing is in flight any more."""
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    def add(self, call: Call) -> None:
        """A call begins; for ``Call``."""
        self._in_flight[call] = None
        if self._timer is None:
            self._watch(self._seconds)

    def remove(self, call: Call) -> None:
        """It has ended; for ``Call``."""
        del self._in_flight[call]

    def __contains__(self, call: Call) -> bool:
        return call in self._in_flight

    def _watch(self, seconds: float) -> None:
        self.close()
        self._timer = gevent.get_hub().loop.timer(seconds)
        self._timer.start(self._end_late, update=True)  # from now, not from when the loop last looked at the clock

    def _end_late(self) -> None:
        """End what has reached its deadline, and watch the oldest of the others."""
        for call in list(self._in_flight):
            if self._left_seconds(call) > 0:
                break
            call.end(LATE)
        oldest = next((call for call in self._in_flight if not call.ended), None)
        if oldest is None:
            self.close()
        else:
            self._watch(max(0.0, self._left_seconds(oldest)))

    def _left_seconds(self, call: Call) -> float:
        return call.began_at + self._seconds - time.monotonic()


class Call:
    """One call, in one greenlet; a context manager that raises Ended in it when the call must end.

    Attributes:
        began_at: When it began, by the monotonic clock.
        new: Whether its connection was, or was to be, opened for it.
        sent: Whether some of the request has left: from then on the tracker may have it.
        closed_at_once: Whether the tracker closed a new connection without an answer; it may limit their number.
        ended: Why it was ended from outside; empty when it was not.
    """

    __slots__ = ("_calls", "_greenlet", "began_at", "closed_at_once", "ended", "new", "sent")

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._greenlet = gevent.getcurrent()
        self.began_at = time.monotonic()
        self.new = self.sent = self.closed_at_once = False
        self.ended = ""

    def __enter__(self) -> Self:
        self._calls.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._calls.remove(self)

    def end(self, why: str) -> None:
        """End it, if it is still in flight; to be called in its thread's hub."""
        if not self.ended and self in self._calls:
            self.ended = why
            self._greenlet.throw(Ended)
