"""The SQLite file of a spool, as one process has it open, and the flag beside it; where SQLite needs care, it is here.

- A process opens a file by SQLite alone, and one object of ours has it: POSIX locks are dropped when *any* descriptor
  of the file is closed in the process, and then another process deletes the log under us.
- Nothing of SQLite may cross a fork, not even to be closed there: it notes in memory which locks the process holds, and
  a child that inherits the note believes that it holds them too. So everything is closed before a fork. Where no hook
  says that a fork comes (uWSGI's master), it is closed after each use. A child that was forked in the middle of a use
  all the same refuses to use the file, see ``spool_handles``.
- A file that was deleted or replaced is opened anew, lest receipts be given for one that has no name.

The flag (``FILE-flag``, a byte in shared memory) says whether there may be anything in the spool, without asking
SQLite: a call looks at it each time. It is believed as long as this machine has not been booted since.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sqlite3
import struct
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from insend_relay.outbox.errors import SpoolBusy, SpoolError
from insend_relay.outbox.process import PerProcess, renew_in_children
from insend_relay.spool.handles import BUSY, Handle, Handles, begin_fork, end_fork

try:
    import fcntl
except ImportError:  # Windows, where ``Spool.of`` refuses
    fcntl = None  # type: ignore[assignment]

SUPPORTED = fcntl is not None
VERSION = 1
BUSY_SECONDS = 0.0005  # between two looks whether another process has finished writing
READ_SECONDS = 0.1  # what opening and reading wait for others; in WAL a reader waits for no writer
AGAIN_SECONDS = 1.0  # after a failed opening, calls fail at once for so long
PAGE_BYTES = 4096
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_FLAG = struct.Struct("=?36s")  # whether there may be something; in which boot that was said
_SCHEMA = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE events (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    lane TEXT NOT NULL,
    slot TEXT NOT NULL,
    kept_at_ms INTEGER NOT NULL,
    app TEXT NOT NULL,
    header BLOB NOT NULL,  -- of its record: id, uids and facts
    payload BLOB NOT NULL,
    once_key TEXT NOT NULL,
    once_seconds INTEGER NOT NULL,
    type TEXT NOT NULL,
    faults TEXT,  -- of an event that breaks the rules
    synced INTEGER NOT NULL  -- 1: its receipt said that it is on a disk, and on one it must stay
) STRICT;
CREATE INDEX events_of_a_lane ON events (lane);
CREATE TABLE unreadable AS SELECT * FROM events WHERE 0;
"""


class SpoolFile:
    """One file; made by ``file_of``, which gives every spool of the process the same.

    Args:
        path: Where it is.
        namespace: Whose it is: a file belongs to one relay.
        most_bytes: How large it may become.
    """

    def __init__(self, path: Path, namespace: str, most_bytes: int) -> None:
        self.path = path
        self.namespace = namespace
        self.name = ""  # its own, wherever it lies
        self.after = 0  # Redis has all rows up to this one, though a full disk may have kept us from dropping them
        self._most_pages = max(16, most_bytes // PAGE_BYTES)
        self._flag: mmap.mmap | None = None
        self._inode = 0  # of the file that was opened last
        self._closed_until = 0.0
        self._why = ""
        self._writing: PerProcess[threading.Lock] = PerProcess(lambda _: threading.Lock())
        self.handles = PerProcess(Handles, leave=Handles.leave, scope=os.getpid)

    # The flag

    @property
    def may_hold(self) -> bool:
        """Whether there may be anything in it."""
        return bool(self._mapped()[0])

    def flag(self, *, may_hold: bool) -> None:
        """Say so to every process."""
        self._mapped()[0] = may_hold

    def _mapped(self) -> mmap.mmap:
        flag = self._flag  # another call may forget it at any point
        if flag is None:
            with errors_mapped("cannot be opened"):
                flag = self._flag = self._map()
        return flag

    def _map(self) -> mmap.mmap:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(f"{self.path}-flag", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, _FLAG.size)  # a hole would kill the process when the disk is full
            flag = mmap.mmap(descriptor, _FLAG.size)
        finally:
            os.close(descriptor)
        boot = _BOOT_ID.read_bytes()[:36] if _BOOT_ID.exists() else b""
        if not boot or flag[1:] != boot:  # what a power cut has left is not to be believed
            if self.path.exists():
                flag[0] = True  # only ever raised here: another thread may have raised it meanwhile
            flag[1:] = boot.ljust(_FLAG.size - 1, b"\0")
        return flag

    # SQLite

    def read(self, query: str, *values: object) -> list[Any]:
        """All rows of a query."""
        deadline = time.monotonic() + READ_SECONDS
        with errors_mapped("cannot be read"), self._connected(deadline) as connection:
            return _patiently(connection, query, deadline, *values).fetchall()

    @contextlib.contextmanager
    def transaction(self, deadline: float) -> Iterator[sqlite3.Connection]:
        """Write; the machine's threads and processes do it one at a time.

        For background threads and operators' commands: it holds a lock, so a call, which may be re-entered, leaves it
        to the thread that writes.
        """
        with self._turn(deadline), errors_mapped("cannot be written"), self._connected(deadline) as connection:
            try:
                _patiently(connection, "BEGIN IMMEDIATE", deadline)
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    def wipe(self, deadline: float) -> None:
        """Leave no byte of a deleted row in the file or its log.

        ``secure_delete`` overwrites what is deleted, but SQLite also leaves copies of rows in pages that it has
        rearranged. VACUUM writes every page anew.
        """
        with errors_mapped("cannot be rewritten"), self._connected(deadline) as connection:
            _patiently(connection, "VACUUM", deadline)
            while _patiently(connection, "PRAGMA wal_checkpoint(TRUNCATE)", deadline).fetchone()[0]:
                if time.monotonic() > deadline:
                    raise SpoolBusy(BUSY)
                time.sleep(BUSY_SECONDS)

    @contextlib.contextmanager
    def _turn(self, deadline: float) -> Iterator[None]:
        """Wait for this process's other writer: by SQLite's lock, looked at every 0.5 ms, the flush would starve."""
        writing = self._writing.get()
        if not writing.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise SpoolBusy(BUSY)
        try:
            yield
        finally:
            writing.release()

    def close(self) -> None:
        """Close what is not in use; the next use opens it again."""
        handles = self.handles.peek()
        if handles is not None:
            handles.close_idle()

    @contextlib.contextmanager
    def _connected(self, deadline: float) -> Iterator[sqlite3.Connection]:
        with self.handles.get().use(lambda handle: self._open(handle, deadline), self._look, deadline) as handle:
            assert handle.connection is not None  # noqa: S101 - for the types: it was opened
            yield handle.connection

    def _look(self) -> int:
        """The inode of the file that has the name now; 0 without one."""
        try:
            inode = self.path.stat().st_ino
        except FileNotFoundError:
            inode = 0
        if inode != self._inode:
            self._flag = None
            self._inode = inode
            self.after = 0
        return inode

    def _open(self, handle: Handle, deadline: float) -> None:
        if time.monotonic() < self._closed_until:
            raise SpoolError(self._why)
        try:
            self._connect(handle, deadline)
        except (sqlite3.Error, OSError, SpoolError) as error:
            refusal = error if isinstance(error, SpoolError) else _mapped(error, "cannot be opened")
            if not isinstance(refusal, SpoolBusy):
                self._why = str(refusal)
                self._closed_until = time.monotonic() + AGAIN_SECONDS
            raise refusal from error.__cause__ if refusal is error else error

    def _connect(self, handle: Handle, deadline: float) -> None:
        self._look()
        self._flag = self._map()
        # SQLite gives the files that it makes the flag's mode, so they are for its owner alone. Made here, the file's
        # descriptor would have to be closed, maybe when another thread has a lock on it already.
        uri = f"{self.path.as_uri()}?modeof={quote(f'{self.path}-flag')}"
        connection = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None, check_same_thread=False)
        handle.connection = connection
        _patiently(connection, "PRAGMA journal_mode = WAL", deadline)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")  # it holds personal data
        connection.execute(f"PRAGMA max_page_count = {self._most_pages}")
        connection.execute("PRAGMA journal_size_limit = 16777216")
        if not _patiently(connection, "PRAGMA user_version", deadline).fetchone()[0]:
            self._make(connection, deadline)
        self._check(connection, deadline)
        handle.inode = self._look()

    def _make(self, connection: sqlite3.Connection, deadline: float) -> None:
        _patiently(connection, "BEGIN IMMEDIATE", deadline)
        try:
            if not connection.execute("PRAGMA user_version").fetchone()[0]:  # else another was quicker
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                about = [("file", uuid.uuid4().hex), ("namespace", self.namespace)]
                connection.executemany("INSERT INTO about VALUES (?, ?)", about)
                connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    def _check(self, connection: sqlite3.Connection, deadline: float) -> None:
        (version,) = _patiently(connection, "PRAGMA user_version", deadline).fetchone()
        if version > VERSION:
            raise SpoolError(f"the spool {self.path} was written by a newer release: upgrade insend-relay here")
        about = dict(_patiently(connection, "SELECT name, value FROM about", deadline).fetchall())
        if about["namespace"] != self.namespace:
            whose = about["namespace"]
            raise SpoolError(
                f"the spool {self.path} is that of namespace {whose}, and INSEND_NAMESPACE is {self.namespace}: "
                "correct it, or name another INSEND_SPOOL"
            )
        self.name = about["file"]


class FlushLock:
    """Held by the thread that moves a spool on, over all processes of the machine."""

    def __init__(self, path: Path) -> None:
        _forget_locks_of_parents()
        with errors_mapped("cannot be locked"):
            self._descriptor = os.open(f"{path}-flush", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.pid = os.getpid()
        _locks.add(self)

    def take(self) -> bool:
        """Whether it is ours now."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Give it back."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # said, not only closed: a child may have it open for a moment
        self.forget()

    def forget(self) -> None:
        """Close it. In a forked child it is the parent's; left open here, it would stay taken when the parent dies."""
        with contextlib.suppress(KeyError):  # closed already
            _locks.remove(self)
            os.close(self._descriptor)


_files: dict[Path, SpoolFile] = {}
_locks: set[FlushLock] = set()


def file_of(path: Path, namespace: str, most_bytes: int) -> SpoolFile:
    """The file at this path: one object for the whole process."""
    where = Path(os.path.realpath(path))
    found = _files.setdefault(where, SpoolFile(where, namespace, most_bytes))
    return found if found.namespace == namespace else SpoolFile(where, namespace, most_bytes)


@contextlib.contextmanager
def errors_mapped(what: str) -> Iterator[None]:
    """SQLite's and the system's errors as ours, with nothing of an event in them."""
    try:
        yield
    except (sqlite3.Error, OSError, ValueError) as error:
        raise _mapped(error, what) from error


def _mapped(error: Exception, what: str) -> SpoolError:
    is_busy = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
    return (SpoolBusy if is_busy else SpoolError)(f"the spool {what}: {error}")


def _patiently(connection: sqlite3.Connection, statement: str, deadline: float, *values: object) -> sqlite3.Cursor:
    """Wait while another connection has it. Not by SQLite's own patience: it sleeps ever longer, up to 100 ms."""
    while True:
        try:
            return connection.execute(statement, values)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(BUSY_SECONDS)


def close_for_fork() -> None:
    """Right before Python forks: close all files, and let no use begin until the fork is over."""
    begin_fork()  # first: a file that is opened for the first time meanwhile waits, too
    for file in list(_files.values()):
        if (handles := file.handles.peek()) is not None:
            handles.close_for_fork()


def _forget_locks_of_parents() -> None:
    for lock in list(_locks):
        if lock.pid != os.getpid():
            lock.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=close_for_fork, after_in_parent=end_fork)
renew_in_children(_forget_locks_of_parents)  # also in one that never uses the spool
