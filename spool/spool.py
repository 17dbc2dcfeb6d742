"""The spool: a file on this machine's disk that keeps events while Redis cannot take them.

One file serves all processes of the machine that name it: producers write, and whoever reaches Redis again moves it on,
in order (``flush``). What ``keep`` has returned for lies on disk (an fsync each), and stays there until Redis has it.
An event follows into the spool as long as an earlier one of its visitor, or of the guest who became it, lies there; so
a visitor's order holds.

Not guaranteed: more than the disk does, nor an order between events that two processes bring at the same moment.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from insend_relay.outbox.entry import Entry, InvalidEntry, Way
from insend_relay.outbox.errors import SettingsError
from insend_relay.outbox.facts import Facts
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.masked import masked
from insend_relay.outbox.record import NotARecord, decode, draft
from insend_relay.outbox.settings import Settings
from insend_relay.spool.file import SUPPORTED, FlushLock, errors_mapped, file_of

_COLUMNS = "row, lane, slot, app, header, payload, once_key, once_seconds, type, faults, synced"
_INSERT = f"INSERT INTO events VALUES (NULL{', ?' * 11})"  # noqa: S608 - question marks


@masked("row", "synced")
class Kept(NamedTuple):
    """A row of the spool: an event, and the way by which it comes into the outbox once.

    Attributes:
        row: Its number; it rises from event to event.
        way: How it comes in.
        entry: The event; None when the row cannot be read.
        synced: Whether its receipt said that it is on a disk (``INSEND_DURABILITY=fsync``), so that it may leave this
            one only when it is on Redis's.
    """

    row: int
    way: Way
    entry: Entry | InvalidEntry | None
    synced: bool = False


@masked("number")
class Unreadable(NamedTuple):
    """A row that was put aside: the parts of it that say whose it is.

    Attributes:
        number: Its number among those that were put aside.
        app: The application's key.
        lane: The name of its lane, "" for none.
        guest_uid: The guest's uid beside the lane, "" for none.
        payload: The event.
    """

    number: int
    app: str
    lane: str
    guest_uid: str
    payload: bytes


class Spooled(NamedTuple):
    """What lies in the spool.

    Attributes:
        events: How many.
        oldest_at_ms: When the first was kept, on this machine's clock; None without one.
        bytes: The file's size, which does not shrink by itself.
        unreadable: Rows that were put aside because nobody could read them.
    """

    events: int
    oldest_at_ms: int | None
    bytes: int
    unreadable: int = 0


class Spool:
    """A way to the file; any number of them, in any number of processes, forked or not.

    Args:
        path: The file; it and its folder are made when they are missing, for their owner alone.
        namespace: Whose events: a file belongs to one relay.
        most_bytes: How large the file may become.

    Every method raises SpoolError when the disk or the file will not do.
    """

    def __init__(self, path: Path, *, namespace: str, most_bytes: int) -> None:
        self.path = path
        self.namespace = namespace
        self._file = file_of(path, namespace, most_bytes)

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """The spool that the settings name; None when they name none. SettingsError where spools do not work."""
        if not settings.spool:
            return None
        if not SUPPORTED:
            raise SettingsError(["INSEND_SPOOL: the spool does not work on Windows: leave the setting empty there"])
        most_bytes = settings.spool_most_megabytes * 1_000_000
        return cls(Path(settings.spool), namespace=settings.namespace, most_bytes=most_bytes)

    def exists(self) -> bool:
        """Whether the file is there; makes none."""
        with errors_mapped("cannot be opened"):
            try:
                self.path.stat()
            except (FileNotFoundError, NotADirectoryError):
                return False
        return True

    def may_hold(self) -> bool:
        """Whether there may be anything in it; takes a fraction of a microsecond."""
        return self._file.may_hold

    def holds(self, lanes: Sequence[str]) -> bool:
        """Whether an event of one of these lanes lies in it, so that a later one has to follow."""
        if not lanes or not self.may_hold():
            return False
        places = ",".join("?" * len(lanes))
        query = f"SELECT 1 FROM events WHERE row > ? AND lane IN ({places}) LIMIT 1"  # noqa: S608 - question marks
        return self._file.read(query, self._file.after, *lanes) != []

    def keep(
        self, entries: Sequence[tuple[Entry | InvalidEntry, str]], *, deadline: float, synced: bool = False
    ) -> None:
        """Put entries to the end, each with its slot of unknown outcome or ""; on disk when this returns.

        Args:
            entries: In order.
            deadline: When to give up waiting for other writers, monotonic seconds.
            synced: See ``Kept``.
        """
        now_ms = time.time_ns() // 1_000_000
        rows = [(*_row(entry, slot, now_ms), synced) for entry, slot in entries]
        with self._file.transaction(deadline) as connection:
            self._file.flag(may_hold=True)
            connection.executemany(_INSERT, rows)

    def first(self, most: int, *, after: int = 0) -> list[Kept]:
        """The oldest events with a row number above ``after``, in order."""
        query = f"SELECT {_COLUMNS} FROM events WHERE row > ? ORDER BY row LIMIT ?"  # noqa: S608 - our own words
        rows = self._file.read(query, max(after, self._file.after), most)
        return [_kept(self._file.name, row) for row in rows]

    def oldest(self) -> int:
        """The file's first row, whether Redis has it already or not; 0 without one."""
        ((row,),) = self._file.read("SELECT ifnull(min(row), 0) FROM events")
        return int(row)

    def unreadable(self) -> list[Unreadable]:
        """The rows that were put aside."""
        rows = self._file.read("SELECT rowid, app, lane, header, payload FROM unreadable")
        return [
            Unreadable(number, _as_text(app), _as_text(lane), _guest_uid(header), _as_bytes(payload))
            for number, app, lane, header, payload in rows
        ]

    def drop(self, row: int, *, deadline: float) -> None:
        """Redis has all up to this row; remembered by this process even when the disk has no room to write it down."""
        self._file.after = row
        with self._file.transaction(deadline) as connection:
            connection.execute("DELETE FROM events WHERE row <= ?", (row,))

    def put_aside(self, row: int, *, deadline: float) -> None:
        """Nobody can read this row: it must not hold up those behind it, and is kept for a person to look at."""
        with self._file.transaction(deadline) as connection:
            connection.execute("INSERT INTO unreadable SELECT * FROM events WHERE row = ?", (row,))
            connection.execute("DELETE FROM events WHERE row = ?", (row,))

    def remove(self, rows: Sequence[int], unreadable: Sequence[int] = (), *, deadline: float) -> None:
        """Delete rows by their numbers, and rows that were put aside by theirs, together."""
        with self._file.transaction(deadline) as connection:
            connection.executemany("DELETE FROM events WHERE row = ?", [(row,) for row in rows])
            connection.executemany("DELETE FROM unreadable WHERE rowid = ?", [(row,) for row in unreadable])

    def wipe(self, *, deadline: float) -> None:
        """Rewrite the file and empty its log, so that no byte of a deleted row is left in either.

        Nothing can be kept meanwhile: a second for 100 MB of events, no time at all for an empty spool.
        """
        self._file.wipe(deadline)

    def lower(self, *, deadline: float) -> None:
        """Lower the flag if there is nothing left. Nobody can put anything in meanwhile."""
        with self._file.transaction(deadline) as connection:
            if not connection.execute("SELECT 1 FROM events LIMIT 1").fetchall():
                self._file.flag(may_hold=False)

    def look(self) -> Spooled:
        """How much lies in it."""
        ((events, oldest),) = self._file.read("SELECT count(*), min(kept_at_ms) FROM events")
        ((unreadable,),) = self._file.read("SELECT count(*) FROM unreadable")
        return Spooled(events, oldest, self.path.stat().st_size, unreadable)

    @contextlib.contextmanager
    def flushing(self) -> Iterator[bool]:
        """Be the one who moves it on: False when another thread or process is."""
        lock = FlushLock(self.path)
        try:
            yield lock.take()
        finally:
            lock.release()

    def close(self) -> None:
        """Close the file; a later use opens it again."""
        self._file.close()


def _row(entry: Entry | InvalidEntry, slot: str, now_ms: int) -> tuple[object, ...]:
    place = str(entry.lane or ""), slot, now_ms
    if isinstance(entry, Entry):
        header = draft(entry.lane, entry.id, entry.guest_uid, b"", entry.known())
        return *place, entry.lane.app, header, entry.payload, entry.once_key, entry.once_seconds, "", None
    header = draft(entry.lane, entry.id, "", b"", Facts())
    return *place, entry.app, header, entry.payload, "", 0, entry.type, entry.faults


def _as_bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


def _as_text(value: object) -> str:
    return _as_bytes(value).decode(errors="replace")


def _guest_uid(header: object) -> str:
    try:
        return decode(_as_bytes(header)).guest_uid
    except NotARecord:
        return ""


def _kept(file: str, row: tuple[Any, ...]) -> Kept:
    number, lane_name, slot, app, header, payload, once_key, once_seconds, kind, faults, synced = row
    way = Way(slot, file)
    try:
        known = decode(header)
        event_id = uuid.UUID(bytes=known.id)
        lane = Lane.parse(lane_name, known.uid) if lane_name else None
        if faults is not None:
            return Kept(number, way, InvalidEntry(app, event_id, lane, kind, payload, faults), bool(synced))
        if lane is None:
            return Kept(number, way, None)
        entry = Entry(lane, event_id, payload, known.guest_uid, once_key, once_seconds, facts=known.facts)
        return Kept(number, way, entry, bool(synced))
    except (ValueError, TypeError):  # a torn disk, or somebody's hand
        return Kept(number, way, None)
