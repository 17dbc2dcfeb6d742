"""Moving a spool's events on into the outbox: in order, and each exactly once, even if killed in the middle.

A row goes in by the script that takes any event in; Redis remembers the ids that came last from each spool, so one that
had gone in before a crash is known there. Rows are dropped from the file only when Redis has answered for them. Those
whose receipts said that they are on a disk (``INSEND_DURABILITY=fsync``) wait until they are on Redis's, whoever moves
them on. For ``replicated`` rows wait a moment only: no receipt of a spooled event says that a replica has it, and one
that is gone must not hold events back.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable

from redis.exceptions import RedisError, ResponseError

from insend_relay.outbox import uwsgi
from insend_relay.outbox.background import Background
from insend_relay.outbox.connection import check_server, connect, mapped, run_together
from insend_relay.outbox.durability import FSYNC, REPLICATED, Asking, Durability
from insend_relay.outbox.errors import OutboxError, OutboxUnreachable, SpoolError
from insend_relay.outbox.idempotency import MISMATCH
from insend_relay.outbox.process import PerProcess
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.spool.spool import Kept, Spool

BATCH = 200  # rows between two writes to the file
UNDROPPED = 600  # of the file's first rows, so many at most may be in Redis too: it remembers 1,024 (``entrance.lua``)
REPLICA_MS = 1_000  # what a batch waits for its replica
FSYNC_MS = 3_000  # and for the disk: appendfsync everysec needs up to 2 s
DROP_SECONDS = 5.0  # what such a write may wait for others
LOOK_SECONDS = 1.0  # how often a worker looks for something to do, and a producer whether another has done it
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.05, 1.0  # between two tries while Redis is away
_log = logging.getLogger(__name__)


def flush(
    spool: Spool, outbox: Outbox, *, stop: Callable[[], bool] = lambda: False, durability: Durability = "memory"
) -> int:
    """Move everything on; returns how many went. Only for the process that holds ``spool.flushing()``.

    An event whose person has been erased since (``insend erase``) is discarded by Redis: it is dropped and not counted.

    Args:
        spool: From where.
        outbox: Where to.
        stop: Asked before each row.
        durability: As in the settings.

    Raises:
        OutboxError: Redis does not take the next one, or does not confirm those before; what it has not answered for
            stays where it is.
        SpoolError: The file will not do.
    """
    moved = 0
    confirming = _Confirming(outbox, durability)
    while not stop() and (rows := _next(spool)):
        confirming.prepare(rows)
        last = 0
        try:
            for row in rows:
                if stop():
                    break
                moved += _move(spool, outbox, row)
                last = row.row
        except BaseException:
            if last and not confirming.asks(rows):  # else they stay: known to Redis, and confirmed with the next
                _drop(spool, last)
            raise
        if last:
            confirming.confirm([row for row in rows if row.row <= last])
            _drop(spool, last)
    spool.lower(deadline=time.monotonic() + DROP_SECONDS)
    return moved


def _next(spool: Spool) -> list[Kept]:
    """The rows to move next, none so far behind the file's first that Redis could forget what it has of the file.

    The file alone sets the bound, for all calls and processes together: a process that does not know what another could
    not drop begins at the file's first row, and Redis must still know each row that it has.

    Raises:
        SpoolError: The bound is reached, and the file will not drop what Redis has.
    """
    rows = spool.first(BATCH)
    if not rows:
        return []
    oldest = spool.oldest()
    if rows[0].row >= oldest + UNDROPPED:
        oldest = rows[0].row
        spool.drop(oldest - 1, deadline=time.monotonic() + DROP_SECONDS)
    return [row for row in rows if row.row < oldest + UNDROPPED]


def _move(spool: Spool, outbox: Outbox, row: Kept) -> int:
    if row.entry is not None:
        appended = outbox.enter(row.entry, row.way)
        if appended.mismatch:
            _log.error("event %s of the spool is dropped as a duplicate: %s", row.entry.id, MISMATCH)
        if appended.erased:
            _log.info("event %s of the spool is discarded: its person was erased", row.entry.id)
        return 0 if appended.erased else 1
    _log.error("row %d of the spool %s cannot be read; it is put aside there", row.row, spool.path)
    spool.put_aside(row.row, deadline=time.monotonic() + DROP_SECONDS)
    return 0


class _Confirming:
    """What Redis must say before the file may drop rows.

    Args:
        outbox: The one that has them by then.
        durability: As in the settings.
    """

    def __init__(self, outbox: Outbox, durability: Durability) -> None:
        self._outbox = outbox
        self._synced = Asking(FSYNC)
        self._replicated = Asking(REPLICATED) if durability == "replicated" else None
        self._known = False

    def asks(self, rows: list[Kept]) -> bool:
        """Whether anything is asked about these rows."""
        return self._replicated is not None or any(row.synced for row in rows)

    def prepare(self, rows: list[Kept]) -> None:
        """Raise OutboxError when this Redis could never confirm them: then it is to take none."""
        if self._known or not any(row.synced for row in rows):
            return
        (reply,) = run_together(self._outbox.redis, FSYNC.probe)
        if isinstance(reply, ResponseError):
            raise FSYNC.refusal(reply) from reply
        self._known = True

    def confirm(self, rows: list[Kept]) -> None:
        """Return when the file may drop these rows; OutboxUnreachable while it may not.

        Since the rows went in, their Redis may have been replaced by its replica. One that lists them all has them, and
        what it confirms behind a write it confirms for all that it had before.
        """
        if any(row.synced for row in rows):
            if not self._is_safe(rows, self._synced, FSYNC_MS):
                raise OutboxUnreachable(f"the spool's events are in Redis but stay here too: {FSYNC.failing}")
        elif self._replicated is not None and self._replicated.may_ask():
            self._is_safe(rows, self._replicated, REPLICA_MS)

    def _is_safe(self, rows: list[Kept], asking: Asking, ms: int) -> bool:
        ids = {row.entry.id.bytes for row in rows if row.entry is not None}
        listed = ("LRANGE", self._outbox.keys.spool(rows[0].way.file), 0, -1)
        written = ("HINCRBY", self._outbox.keys.ledger, "accepted", 0)
        has, wrote, said = run_together(self._outbox.redis, listed, written, asking.question.command(ms))
        for reply in (has, wrote):
            if isinstance(reply, RedisError):
                raise mapped(reply)
        if not ids <= set(has):
            raise OutboxUnreachable("Redis has lost what the spool had moved there; it is moved again")
        return asking.heard(said)


def _drop(spool: Spool, last: int) -> None:
    """Drop what Redis has; when the disk is full, it is dropped with what comes later (``_next``)."""
    with contextlib.suppress(SpoolError):
        spool.drop(last, deadline=time.monotonic() + DROP_SECONDS)


class Flusher:
    """A thread that moves a spool on while there is something in it.

    It never runs in a process that forks uWSGI's workers: the spool must be closed there at each fork.

    Args:
        settings: Where Redis is.
        spool: The spool.
        for_ever: Look again and again for what other processes have put into it; else the thread ends with the work.
    """

    def __init__(self, settings: Settings, spool: Spool, *, for_ever: bool = False) -> None:
        self._settings = settings
        self._spool = spool
        self._for_ever = for_ever
        self._threads = PerProcess(lambda _: self._thread(), leave=Background.dismiss)

    def wake(self) -> None:
        """There may be something to do. Without a thread to be had, another process does it, or a later call."""
        if uwsgi.forks_workers():
            return
        with contextlib.suppress(RuntimeError):
            self._threads.get().start()

    def close(self) -> None:
        """End the thread; ``wake`` begins another."""
        thread = self._threads.forget()
        if thread is not None:
            thread.stop(MAX_PAUSE_SECONDS)  # longer only while it waits for a Redis that does not answer

    def _thread(self) -> Background:
        thread = Background("insend-flush", lambda: self._run(thread), wanted=lambda: self._wanted(thread))
        return thread

    def _run(self, thread: Background) -> None:
        with connect(self._settings.redis_url, connections=1) as client:
            outbox = Outbox(client, namespace=self._settings.namespace)
            pause = FIRST_PAUSE_SECONDS
            failed = False
            while self._wanted(thread):
                try:
                    self._once(outbox, thread)
                except (OutboxError, SpoolError) as error:
                    if not failed:
                        _log.warning("the spool %s waits: %s", self._spool.path, error)
                    failed = True
                except Exception:  # noqa: BLE001 - whatever it is, this thread must live to try again
                    _log.exception("a defect of the flush; it goes on")
                    failed = True
                else:
                    failed, pause = False, FIRST_PAUSE_SECONDS
                if failed:
                    client.connection_pool.disconnect()  # after a failover its name may lead to the new primary
                    thread.wait(pause)
                    pause = min(2 * pause, MAX_PAUSE_SECONDS)

    def _once(self, outbox: Outbox, thread: Background) -> None:
        if self._spool.may_hold():
            with self._spool.flushing() as mine:
                moved = self._flush(outbox, thread) if mine else 0
            if moved:
                _log.warning("of the spool %s are in Redis now: %d", self._spool.path, moved)
        if self._for_ever or self._spool.may_hold():
            thread.wait(LOOK_SECONDS)

    def _flush(self, outbox: Outbox, thread: Background) -> int:
        check_server(outbox.redis)
        return flush(self._spool, outbox, stop=lambda: thread.stopped, durability=self._settings.durability)

    def _wanted(self, thread: Background) -> bool:
        """Whether the thread is to go on."""
        if thread.stopped or self._for_ever:
            return not thread.stopped
        try:
            return self._spool.may_hold()
        except SpoolError:
            return False
