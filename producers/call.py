"""The call that this thread or greenlet is in: what its commands to Redis share."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self


class Call:
    """One call of the application, for ``with``.

    A call may be re-entered at any point, by a signal handler or by ``__del__``: the inner one has its own deadline,
    and at its end the outer one is the current call again.

    Args:
        seconds: How long it may take.

    Attributes:
        deadline: When it must end; monotonic seconds.
        confirmed: Whether what it wrote is as safe as the settings want it.
    """

    __slots__ = ("_outer", "_thread", "confirmed", "deadline")

    def __init__(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds
        self.confirmed = True

    def __enter__(self) -> Self:
        self._thread = threading.get_ident()
        self._outer = _calls.get(self._thread)
        _calls[self._thread] = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._outer is None:
            _calls.pop(self._thread, None)
        else:
            _calls[self._thread] = self._outer


def current_call() -> Call:
    """The innermost call here; outside of any, one without time left."""
    return _calls.get(threading.get_ident()) or Call(0.0)


# By the ident of the thread, or of the greenlet under gevent. Not a ContextVar: to set one allocates, in Python 3.11 an
# allocation may run __del__, and one that sets another frees what the first is still reading: the process crashes.
# Not threading.local: one that was made before gevent's patch is common to all greenlets of a thread.
_calls: dict[int, Call] = {}
