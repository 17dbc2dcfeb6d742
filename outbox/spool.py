"""The spool: a file on this machine's disk that keeps events while Redis cannot take them.

One SQLite file serves all processes of the machine that name it: producers write, and whoever reaches Redis again moves
it on, in order (``flush``). What ``keep`` has returned for lies on disk (WAL, synchronous=FULL: an fsync each), and
stays there until Redis has it. An event follows into the spool as long as an earlier one of its visitor, or of the
guest who became it, lies there; so a visitor's order holds.

Not guaranteed: more than the disk does, nor an order between events that two processes bring at the same moment.

A byte in shared memory (``FILE-flag``) says whether there may be anything, so that a call with an empty spool costs
less than a microsecond. It is raised before an event is kept and lowered under the same lock, so it errs only upwards.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from insend_relay.outbox.entry import Entry, InvalidEntry, Way
from insend_relay.outbox.errors import SpoolError
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.settings import Settings

BUSY_SECONDS = 0.0005  # between two looks whether another process has finished writing
OPEN_SECONDS = 0.25  # what opening and reading wait for one that opens or closes the file
_PAGE_BYTES = 4096
_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS events (
    row INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice: Redis remembers the last that came in
    namespace TEXT NOT NULL,
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
    faults TEXT  -- of an event that breaks the rules
) STRICT;
CREATE INDEX IF NOT EXISTS events_of_a_lane ON events (namespace, lane);
"""
_INSERT = f"INSERT INTO events VALUES (NULL{', ?' * 12})"  # noqa: S608 - question marks
_VERSION = 1


class Kept(NamedTuple):
    """A row of the spool: an event, and the way by which it comes into the outbox once."""

    way: Way
    entry: Entry | InvalidEntry


class Spooled(NamedTuple):
    """What lies in the spool.

    Attributes:
        events: How many.
        oldest_at_ms: When the first was kept, on this machine's clock; None without one.
        bytes: The file's size, which does not shrink by itself.
    """

    events: int
    oldest_at_ms: int | None
    bytes: int


class Spool:
    """One process's view of the file. Opened at its first use, and anew in a forked child.

    Args:
        path: The file; it and its folder are made when they are missing, for their owner alone.
        namespace: Whose events: several relays may share a file.
        most_bytes: How large the file may become.

    Every method raises SpoolError when the disk or the file will not do.
    """

    def __init__(self, path: Path, *, namespace: str, most_bytes: int) -> None:
        self.path = path
        self.namespace = namespace
        self._most_pages = max(16, most_bytes // _PAGE_BYTES)
        self._lock = threading.Lock()
        self._open: _Open | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """The spool that the settings name; None when they name none."""
        if not settings.spool:
            return None
        most_bytes = settings.spool_most_megabytes * 1_000_000
        return cls(Path(settings.spool), namespace=settings.namespace, most_bytes=most_bytes)

    def may_hold(self) -> bool:
        """Whether there may be anything in it."""
        return bool(self._opened().flag[0])

    def holds(self, lanes: Sequence[str]) -> bool:
        """Whether an event of one of these lanes lies in it, so that a later one has to follow."""
        if not lanes or not self.may_hold():
            return False
        places = ",".join("?" * len(lanes))
        query = f"SELECT 1 FROM events WHERE namespace = ? AND lane IN ({places}) LIMIT 1"  # noqa: S608 - question marks
        return self._read(query, self.namespace, *lanes) != []

    def keep(self, entries: Sequence[tuple[Entry | InvalidEntry, str]], *, deadline: float) -> None:
        """Put entries to the end, each with its slot of unknown outcome or ""; on disk when this returns.

        Args:
            entries: In order.
            deadline: When to give up waiting for other writers, monotonic seconds.
        """
        now_ms = time.time_ns() // 1_000_000
        rows = [_row(self.namespace, entry, slot, now_ms) for entry, slot in entries]
        with self._writing(deadline) as (connection, flag):
            flag[0] = 1
            connection.executemany(_INSERT, rows)

    def first(self, most: int) -> list[Kept]:
        """The oldest events, in order."""
        query = "SELECT * FROM events WHERE namespace = ? ORDER BY row LIMIT ?"
        file = self._opened().file
        return [_kept(file, row) for row in self._read(query, self.namespace, most)]

    def drop(self, row: int, *, deadline: float) -> None:
        """Redis has all up to this row."""
        with self._writing(deadline) as (connection, _):
            connection.execute("DELETE FROM events WHERE namespace = ? AND row <= ?", (self.namespace, row))

    def lower(self, *, deadline: float) -> None:
        """Lower the flag if there is nothing left. Nobody can put anything in meanwhile."""
        with self._writing(deadline) as (connection, flag):
            if not connection.execute("SELECT 1 FROM events LIMIT 1").fetchall():
                flag[0] = 0

    def look(self) -> Spooled:
        """How much lies in it."""
        ((events, oldest),) = self._read(
            "SELECT count(*), min(kept_at_ms) FROM events WHERE namespace = ?", self.namespace
        )
        return Spooled(events, oldest, self.path.stat().st_size)

    @contextlib.contextmanager
    def flushing(self) -> Iterator[bool]:
        """Be the one who moves it on: False when another thread or process is."""
        with _mapped("cannot be locked"):
            descriptor = os.open(f"{self.path}-flush", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            try:
                yield True
            finally:
                fcntl.flock(
                    descriptor, fcntl.LOCK_UN
                )  # said, not only closed: a child forked meanwhile has it open too
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Close the file; a later use opens it again."""
        with self._lock:
            opened, self._open = self._open, None
            if opened is not None and opened.pid == os.getpid():
                opened.reader.close()
                opened.writer.close()

    def _opened(self) -> _Open:
        opened = self._open
        if opened is None or opened.pid != os.getpid():
            with self._lock:
                if self._open is None or self._open.pid != os.getpid():
                    if self._open is not None:
                        _of_a_parent.append(self._open)  # SQLite: a connection may not even be closed beyond a fork
                    with _mapped("cannot be opened"):
                        self._open = _open(self.path, self._most_pages)
                opened = self._open
        return opened

    def _read(self, query: str, *values: object) -> list[Any]:
        opened = self._opened()
        with opened.reading, _mapped("cannot be read"):
            return _patiently(opened.reader, query, time.monotonic() + OPEN_SECONDS, *values).fetchall()

    @contextlib.contextmanager
    def _writing(self, deadline: float) -> Iterator[tuple[sqlite3.Connection, mmap.mmap]]:
        """A transaction; this process's threads and the machine's other processes write one at a time."""
        opened = self._opened()
        if not opened.writing.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise SpoolError(f"the spool {self.path} was busy too long")
        try:
            with _mapped("cannot be written"):
                _patiently(opened.writer, "BEGIN IMMEDIATE", deadline)
                try:
                    yield opened.writer, opened.flag
                    opened.writer.execute("COMMIT")
                except BaseException:
                    with contextlib.suppress(sqlite3.Error):
                        opened.writer.execute("ROLLBACK")
                    raise
        finally:
            opened.writing.release()


class _Open(NamedTuple):
    """The file as one process has it open."""

    pid: int
    file: str  # its own name, wherever it lies
    writer: sqlite3.Connection
    reader: sqlite3.Connection
    writing: threading.Lock
    reading: threading.Lock
    flag: mmap.mmap


_of_a_parent: list[_Open] = []


def _open(path: Path, most_pages: int) -> _Open:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in (path, Path(f"{path}-flag")):  # for their owner alone; what SQLite adds takes after the file
        os.close(os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    with Path(f"{path}-flag").open("r+b") as file:
        if os.fstat(file.fileno()).st_size == 0:
            os.ftruncate(file.fileno(), 1)
        flag = mmap.mmap(file.fileno(), 1)
    writer, reader = _connect(path), _connect(path)
    deadline = time.monotonic() + OPEN_SECONDS
    try:
        _patiently(writer, "PRAGMA journal_mode = WAL", deadline)
        writer.execute("PRAGMA synchronous = FULL")
        writer.execute(f"PRAGMA max_page_count = {most_pages}")
        writer.execute("PRAGMA journal_size_limit = 16777216")
        _patiently(writer, "BEGIN IMMEDIATE", deadline)
        for statement in _SCHEMA.split(";"):
            writer.execute(statement)
        writer.execute(
            "INSERT OR IGNORE INTO about VALUES ('file', ?), ('version', ?)", (uuid.uuid4().hex, str(_VERSION))
        )
        about = dict(writer.execute("SELECT name, value FROM about").fetchall())
        _check_version(path, int(about["version"]))
        flag[0] = bool(writer.execute("SELECT 1 FROM events LIMIT 1").fetchall())
        writer.execute("COMMIT")
    except BaseException:
        writer.close()
        reader.close()
        raise
    return _Open(os.getpid(), about["file"], writer, reader, threading.Lock(), threading.Lock(), flag)


def _check_version(path: Path, version: int) -> None:
    if version > _VERSION:
        raise SpoolError(f"the spool {path} was written by a newer release: upgrade insend-relay here")


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)


def _patiently(connection: sqlite3.Connection, statement: str, deadline: float, *values: object) -> sqlite3.Cursor:
    """Wait while another connection has it. Not by SQLite's own patience: it sleeps ever longer, up to 100 ms."""
    while True:
        try:
            return connection.execute(statement, values)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(BUSY_SECONDS)


@contextlib.contextmanager
def _mapped(what: str) -> Iterator[None]:
    """SQLite's and the system's errors as ours, with nothing of an event in them."""
    try:
        yield
    except (sqlite3.Error, OSError, ValueError) as error:
        raise SpoolError(f"the spool {what}: {error}") from error


def _row(namespace: str, entry: Entry | InvalidEntry, slot: str, now_ms: int) -> tuple[object, ...]:
    place = namespace, str(entry.lane or ""), slot, now_ms
    if isinstance(entry, Entry):
        rest = entry.guest_uid, entry.once_key, entry.once_seconds
        return *place, entry.lane.app, entry.id.bytes, entry.payload, *rest, "", None
    return *place, entry.app, entry.id.bytes, entry.payload, "", "", 0, entry.type, entry.faults


def _kept(file: str, row: tuple[Any, ...]) -> Kept:
    number, _, lane, slot, _, app, id_bytes, payload, guest_uid, once_key, once_seconds, kind, faults = row
    way, event_id = Way(slot, file, number), uuid.UUID(bytes=id_bytes)
    if faults is None:
        return Kept(way, Entry(Lane.parse(lane), event_id, payload, guest_uid, once_key, once_seconds))
    return Kept(way, InvalidEntry(app, event_id, Lane.parse(lane) if lane else None, kind, payload, faults))
