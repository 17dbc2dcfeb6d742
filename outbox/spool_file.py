"""The SQLite file of a spool, as one process has it open, and the flag beside it; where SQLite needs care, it is here.

- A process opens a file by SQLite alone, and one object of ours has it: POSIX locks are dropped when *any* descriptor
  of the file is closed in the process, and then another process deletes the log under us.
- Nothing of SQLite may cross a fork, not even to be closed there. So before a fork everything is closed, and opened
  again by whoever needs it, on either side.
- A file that was deleted or replaced is opened anew, lest receipts be given for one that has no name.

The flag (``FILE-flag``, a byte in shared memory) says whether there may be anything in the spool, without asking
SQLite: a call looks at it each time. It is believed as long as this machine has not been booted since.
"""

from __future__ import annotations

import contextlib
import fcntl
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

from insend_relay.outbox.errors import SpoolError

VERSION = 1
BUSY_SECONDS = 0.0005  # between two looks whether another process has finished writing
READ_SECONDS = 0.1  # what opening and reading wait for others; in WAL a reader waits for no writer
FORK_SECONDS = 1.0  # what a fork waits for a write under way
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
    id BLOB NOT NULL,
    payload BLOB NOT NULL,
    guest_uid TEXT NOT NULL,
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
        self.name = ""  # its own, wherever it lies
        self.after = 0  # Redis has all rows up to this one, though a full disk may have kept us from dropping them
        self._namespace = namespace
        self._most_pages = max(16, most_bytes // PAGE_BYTES)
        self._flag: mmap.mmap | None = None
        self._inode = 0
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._closed_until = 0.0
        self._why = ""
        self.writing = threading.Lock()
        self.reading = threading.Lock()

    # The flag

    @property
    def may_hold(self) -> bool:
        """Whether there may be anything in it."""
        return bool(self._mapped()[0])

    def flag(self, *, may_hold: bool) -> None:
        """Say so to every process."""
        self._mapped()[0] = may_hold

    def _mapped(self) -> mmap.mmap:
        if self._flag is None:
            with errors_mapped("cannot be opened"):
                self._flag = self._map()
        return self._flag

    def _map(self) -> mmap.mmap:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(f"{self.path}-flag", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, _FLAG.size)  # a hole would kill the process when the disk is full
            flag = mmap.mmap(descriptor, _FLAG.size)
        finally:
            os.close(descriptor)
        boot = _BOOT_ID.read_bytes()[:36] if _BOOT_ID.exists() else b""
        if not boot or _FLAG.unpack_from(flag)[1] != boot:  # what a power cut has left is not to be believed
            _FLAG.pack_into(flag, 0, self.path.exists(), boot)
        return flag

    # SQLite

    def read(self, query: str, *values: object) -> list[Any]:
        """All rows of a query."""
        if not self.reading.acquire(timeout=READ_SECONDS):
            raise SpoolError("the spool was busy too long")
        try:
            with errors_mapped("cannot be read"):
                self._look_at_inode()
                self._reader = self._reader or self._opened(time.monotonic() + READ_SECONDS)
                return _patiently(self._reader, query, time.monotonic() + READ_SECONDS, *values).fetchall()
        finally:
            self.reading.release()

    @contextlib.contextmanager
    def transaction(self, deadline: float) -> Iterator[sqlite3.Connection]:
        """Write; this process's threads and the machine's other processes do it one at a time."""
        if not self.writing.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise SpoolError("the spool was busy too long")
        try:
            with errors_mapped("cannot be written"):
                self._look_at_inode()
                connection = self._writer = self._writer or self._opened(deadline)
                _patiently(connection, "BEGIN IMMEDIATE", deadline)
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    with contextlib.suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                    raise
        finally:
            self.writing.release()

    def wipe(self, deadline: float) -> None:
        """Leave no byte of a deleted row in the file or its log.

        ``secure_delete`` overwrites what is deleted, but SQLite also leaves copies of rows in pages that it has
        rearranged. VACUUM writes every page anew.
        """
        if not self.writing.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise SpoolError("the spool was busy too long")
        try:
            with errors_mapped("cannot be rewritten"):
                self._look_at_inode()
                connection = self._writer = self._writer or self._opened(deadline)
                _patiently(connection, "VACUUM", deadline)
                while _patiently(connection, "PRAGMA wal_checkpoint(TRUNCATE)", deadline).fetchone()[0]:
                    if time.monotonic() > deadline:
                        raise SpoolError("the spool was busy too long")
                    time.sleep(BUSY_SECONDS)
        finally:
            self.writing.release()

    def close(self) -> None:
        """Close the file; whoever needs it opens it again."""
        with self.writing, self.reading:
            self.shut()

    def shut(self) -> None:
        """``close`` for who has both locks."""
        for connection in (self._writer, self._reader):
            if connection is not None:
                connection.close()
        self._writer = self._reader = None
        self._inode = 0

    def begin_anew(self) -> None:
        """In a forked child: nothing of the parent's is ours."""
        _forgotten.append((self._writer, self._reader))
        self._writer = self._reader = None
        self._inode = 0
        self.writing, self.reading = threading.Lock(), threading.Lock()

    def _look_at_inode(self) -> None:
        """Forget connections to a file that has lost its name."""
        if self._inode and (not self.path.exists() or self.path.stat().st_ino != self._inode):
            _forgotten.append((self._writer, self._reader))  # not closed: the other lock's owner may be using one
            self._writer = self._reader = self._flag = None
            self._inode = self.after = 0

    def _opened(self, deadline: float) -> sqlite3.Connection:
        if time.monotonic() < self._closed_until:
            raise SpoolError(self._why)
        try:
            with _opening:
                return self._open(deadline)
        except (sqlite3.Error, OSError, SpoolError) as error:
            self._why = str(error) if isinstance(error, SpoolError) else f"the spool cannot be opened: {error}"
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:
                self._closed_until = time.monotonic() + AGAIN_SECONDS
            raise SpoolError(self._why) from error

    def _open(self, deadline: float) -> sqlite3.Connection:
        self._mapped()
        with contextlib.suppress(FileExistsError):  # for its owner alone; what SQLite adds takes after it
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            _patiently(connection, "PRAGMA journal_mode = WAL", deadline)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")  # it holds personal data
            connection.execute(f"PRAGMA max_page_count = {self._most_pages}")
            connection.execute("PRAGMA journal_size_limit = 16777216")
            if not _patiently(connection, "PRAGMA user_version", deadline).fetchone()[0]:
                self._make(connection, deadline)
            self._check(connection, deadline)
            self._inode = self.path.stat().st_ino
        except BaseException:
            connection.close()
            raise
        return connection

    def _make(self, connection: sqlite3.Connection, deadline: float) -> None:
        _patiently(connection, "BEGIN IMMEDIATE", deadline)
        try:
            if not connection.execute("PRAGMA user_version").fetchone()[0]:  # else another was quicker
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                about = [("file", uuid.uuid4().hex), ("namespace", self._namespace)]
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
        if about["namespace"] != self._namespace:
            whose = about["namespace"]
            raise SpoolError(f"the spool {self.path} is that of namespace {whose}: name another INSEND_SPOOL")
        self.name = about["file"]


class FlushLock:
    """Held by the one who moves a spool on, over all processes of the machine."""

    def __init__(self, path: Path) -> None:
        with errors_mapped("cannot be locked"):
            self._descriptor = os.open(f"{path}-flush", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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
        """In a forked child it is the parent's; open here too, it would stay taken when the parent dies."""
        _locks.discard(self)
        os.close(self._descriptor)


_files: dict[Path, SpoolFile] = {}
_locks: set[FlushLock] = set()
_forgotten: list[object] = []  # connections that nobody may close any more
_held: list[threading.Lock] = []  # across a fork
_opening = threading.Lock()
_registry = threading.Lock()


def file_of(path: Path, namespace: str, most_bytes: int) -> SpoolFile:
    """The file at this path: one object for the whole process."""
    where = Path(os.path.realpath(path))
    with _registry:
        found = _files.get(where)
        if found is None or found._namespace != namespace:  # noqa: SLF001 - of this module
            found = SpoolFile(where, namespace, most_bytes)
            if where not in _files:
                _files[where] = found
        return found


@contextlib.contextmanager
def errors_mapped(what: str) -> Iterator[None]:
    """SQLite's and the system's errors as ours, with nothing of an event in them."""
    try:
        yield
    except (sqlite3.Error, OSError, ValueError) as error:
        raise SpoolError(f"the spool {what}: {error}") from error


def _patiently(connection: sqlite3.Connection, statement: str, deadline: float, *values: object) -> sqlite3.Cursor:
    """Wait while another connection has it. Not by SQLite's own patience: it sleeps ever longer, up to 100 ms."""
    while True:
        try:
            return connection.execute(statement, values)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(BUSY_SECONDS)


def _before_fork() -> None:
    """Close everything, and let nobody open it before the fork is over."""
    _registry.acquire()
    for file in _files.values():
        mine = [lock for lock in (file.writing, file.reading) if lock.acquire(timeout=FORK_SECONDS)]
        if len(mine) == 2:  # noqa: PLR2004 - both; else the disk hangs, and the child does without what is open here
            file.shut()
        _held.extend(mine)
    _opening.acquire()  # who opens has one of those locks


def _after_fork() -> None:
    _opening.release()
    while _held:
        _held.pop().release()
    _registry.release()


def _after_fork_in_child() -> None:
    for lock in list(_locks):
        lock.forget()
    for file in _files.values():
        file.begin_anew()
    _held.clear()
    _opening.release()
    _registry.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
