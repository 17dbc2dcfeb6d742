"""The connections to a spool's SQLite file that one process has open, each used by one thread at a time.

No lock is held: a use may be re-entered by a signal handler or by ``__del__``, and then takes another connection. A
fork waits until no connection is in use, closes all of them, and keeps new uses waiting until it is over: those of all
files, since one may be opened for the first time while the fork goes on.

SQLite's bookkeeping of POSIX locks is one for each process and file, in memory. In a child that was forked while the
file was open it says that the process holds a lock that only the parent has. So a child that was forked without
Python's hooks while it was open refuses the file: another process could delete the log under it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from insend_relay.outbox import uwsgi
from insend_relay.outbox.errors import SpoolBusy, SpoolError
from insend_relay.outbox.process import PerProcess
from insend_relay.spool.in_use import InUse

MAX_OPEN = 8  # a spool that is not empty is read by each call, for some 20 us
WAIT_SECONDS = 0.0005  # between two looks whether a connection, or the fork, has come to its end
FORK_SECONDS = 1.0  # what a fork waits for uses that have begun
BUSY = "the spool was busy too long"
INHERITED = (
    "the spool was open in the process that forked this one, and SQLite does not survive that: "
    "set lazy-apps = true in uWSGI's settings; elsewhere, fork before the first event"
)


class Handle:
    """One connection.

    Attributes:
        connection: SQLite's; None before it is opened.
        inode: The file that it leads to.
    """

    connection: sqlite3.Connection | None = None
    inode = 0

    def __del__(self) -> None:
        """Lost by an exception between two steps: SQLite closes the file before the handle counts no more."""
        if self.connection is not None:
            self.connection.close()


class _Use:
    """The mark of a use that has begun."""


class Handles:
    """All connections of one process to one file.

    Args:
        earlier: Those of the process that forked this one.

    Attributes:
        inherited: Whether SQLite had the file open at the fork.
    """

    def __init__(self, earlier: Sequence[Handles]) -> None:
        self._pid = os.getpid()
        self._idle: deque[Handle] = deque()
        self._open: InUse[Handle] = InUse()  # noted before SQLite opens the file, and until it has closed it
        self._uses: InUse[_Use] = InUse()
        self.inherited: bool = any(one.inherited or one.is_open for one in earlier)

    @contextlib.contextmanager
    def use(self, open_: Callable[[Handle], None], current: Callable[[], int], deadline: float) -> Iterator[Handle]:
        """A connection for one use.

        Args:
            open_: Opens a handle.
            current: Tells the inode of the file that has the spool's name now; 0 when there is none.
            deadline: Until when to wait for one, monotonic seconds.
        """
        if self.inherited:
            raise SpoolError(INHERITED)
        use = _Use()
        self._begin(use, deadline)
        try:
            handle = self._take(open_, current, deadline)
            try:
                yield handle
            finally:
                self._give_back(handle)
        finally:
            self._uses.discard(use)

    def _begin(self, use: _Use, deadline: float) -> None:
        while True:
            self._uses.add(use)  # first: a fork looks for uses after it has noted itself
            if not _forking.get():
                return
            self._uses.discard(use)
            _wait(deadline)

    def _take(self, open_: Callable[[Handle], None], current: Callable[[], int], deadline: float) -> Handle:
        while True:
            try:
                handle = self._idle.pop()
            except IndexError:
                if len(self._open) < MAX_OPEN:
                    return self._opened(open_)
                _wait(deadline)
                continue
            if handle.inode == current():
                return handle
            # Not closed: SQLite would delete the log by its name, and that belongs to the new file.
            _forgotten.append(handle)
            self._open.discard(handle)

    def _opened(self, open_: Callable[[Handle], None]) -> Handle:
        handle = Handle()
        self._open.add(handle)
        try:
            open_(handle)
        except BaseException:
            self._close(handle)
            raise
        return handle

    def _give_back(self, handle: Handle) -> None:
        if uwsgi.forks_workers():
            self._close(handle)
        else:
            self._idle.append(handle)

    def _close(self, handle: Handle) -> None:
        if handle.connection is not None:
            handle.connection.close()
        self._open.discard(handle)

    @property
    def is_open(self) -> bool:
        """Whether SQLite has the file open."""
        return bool(self._open)

    def close_idle(self) -> None:
        """Close what is not in use."""
        while self._idle:
            with contextlib.suppress(IndexError):  # another thread has taken the last one
                self._close(self._idle.pop())

    def close_for_fork(self) -> None:
        """Close everything. A use that does not end in time stays, and the child refuses the file."""
        with contextlib.suppress(SpoolBusy):
            give_up = time.monotonic() + FORK_SECONDS
            while self._uses:
                _wait(give_up)
        self.close_idle()

    def leave(self) -> None:
        """In a forked child: what is open here is never touched again, not even by the garbage collector."""
        _forgotten.extend([self, *self._open])


def begin_fork() -> None:
    """This thread is about to fork: from now on no use begins, of any file."""
    _forking.get().add(threading.get_ident())


def end_fork() -> None:
    """In the parent: uses go on."""
    _forking.get().discard(threading.get_ident())


def _wait(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise SpoolBusy(BUSY)
    time.sleep(WAIT_SECONDS)


# The threads that are forking. A child has a set of its own: the thread that forked it is not forking there.
_forking: PerProcess[set[int]] = PerProcess(lambda _: set(), scope=os.getpid)
_forgotten: list[object] = []  # connections that must never be closed
