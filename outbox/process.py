"""The registry of what a forked child process must not share with its parent. Two kinds of state, two ways in:

- ``PerProcess``: state that is made at its first use in a process, and made anew in each child that uses it;
- ``renew_in_children``: state that a child must change at once, whether it uses it or not.

What there is to know about forks stands here:

- A fork copies connections, locks and queues into the child, but none of the threads that serve them. Python's fork
  hooks do not run everywhere: uWSGI forks in C. So the process id is compared at each use.
- gevent's ``monkey.patch_all()`` replaces ``threading.Lock`` and the threads themselves. A lock or queue that was made
  before it blocks all greenlets of the thread. So the identity of ``threading.Lock`` is compared as well.

No lock is held: a use may be re-entered at any point, by a signal handler or by ``__del__``.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Hashable, Sequence
from types import MethodType
from typing import Any, Generic, TypeVar

S = TypeVar("S")


def same_threads() -> Hashable:
    """The scope of state that is made of locks, queues, threads or sockets: one process, patched or not."""
    return os.getpid(), threading.Lock


class PerProcess(Generic[S]):
    """One state for each scope, of which a process uses one at a time.

    Args:
        make: Makes the state of a new scope from the states of earlier ones: the parent's, or the one from before a
            patch. Two threads may make one at the same time, and one of the two is thrown away. So this has no effect.
        leave: Ends an earlier state; called once for each. Its threads may not exist in this process.
        scope: Tells the scope of now; ``os.getpid`` for state without locks, threads or sockets.
    """

    def __init__(
        self,
        make: Callable[[Sequence[S]], S],
        *,
        leave: Callable[[S], None] = lambda _: None,
        scope: Callable[[], Hashable] = same_threads,
    ) -> None:
        self._make = make
        self._leave = leave
        self._scope = scope
        self._states: dict[Hashable, S] = {}

    def get(self) -> S:
        """The state of this process; takes half a microsecond."""
        scope = self._scope()
        state = self._states.get(scope)
        return self._begin(scope) if state is None else state

    def peek(self) -> S | None:
        """The state of this process; None before its first use."""
        return self._states.get(self._scope())

    def forget(self) -> S | None:
        """Take the state out, so that the next use makes another; None when there is none."""
        return self._states.pop(self._scope(), None)

    def _begin(self, scope: Hashable) -> S:
        # setdefault is one step for all threads: one of those that are made at the same time wins.
        state = self._states.setdefault(scope, self._make(list(self._states.values())))
        for other in list(self._states):
            if other != scope and (earlier := self._states.pop(other, None)) is not None:
                self._leave(earlier)
        return state


def renew_in_children(renew: Callable[[], Any]) -> None:
    """Have a function called in each child that Python forks from now on, right after the fork.

    Args:
        renew: A method, called while its object lives, or a function of a module. It must not wait.
    """
    reference = weakref.WeakMethod(renew) if isinstance(renew, MethodType) else weakref.ref(renew)

    def renew_if_alive() -> None:
        if (alive := reference()) is not None:
            alive()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=renew_if_alive)


def abandon(descriptor: int) -> None:
    """In a forked child: close its copy of the parent's connection, and say nothing on it.

    The object that has the descriptor is not told, since closing it might send something (TLS) or touch an event loop
    that the parent uses. It has the null device from now on.

    Args:
        descriptor: A file descriptor; negative ones, of closed sockets, are ignored.
    """
    if descriptor < 0:
        return
    null = os.open(os.devnull, os.O_RDWR)
    try:
        os.dup2(null, descriptor, inheritable=False)
    finally:
        os.close(null)
