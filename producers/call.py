"""The call that this thread, task or greenlet is in: what its commands to Redis share."""

from __future__ import annotations

import time
from contextvars import ContextVar
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

    __slots__ = ("_outer", "confirmed", "deadline")

    def __init__(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds
        self.confirmed = True
        self._outer: Call | None = None

    def __enter__(self) -> Self:
        self._outer = _current.get()
        _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.set(self._outer)


def current_call() -> Call:
    """The innermost call here; outside of any, one without time left."""
    return _current.get() or Call(0.0)


_current: ContextVar[Call | None] = ContextVar("insend_call", default=None)
