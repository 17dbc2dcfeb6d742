"""Into the spool instead of Redis: when Redis cannot take an event, or an earlier one of its visitor lies there.

One thread of the process writes, so that all events that came while it waited for the disk share the next fsync; a call
waits for its own. The same thread serves threads, greenlets and event loops.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
import weakref
from concurrent.futures import Future
from typing import NamedTuple

from insend_relay.outbox.entry import Entry, InvalidEntry
from insend_relay.outbox.errors import SpoolError
from insend_relay.outbox.flush import Flusher
from insend_relay.outbox.masked import masked
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.spool import Spool

# A disk may stall for seconds, and Redis's often is the same one: of 363,166 calls in 30 minutes of faults 3 waited for
# more than 140 ms. With the default time-out a call has its answer after 370 ms, if only that nobody knows.
WAIT_SHARE = 0.32  # of INSEND_ENQUEUE_TIMEOUT_MS: what a call waits for its event to be written
FSYNC_SECONDS = 0.04  # and, when it is being written by then, for the disk
TOO_BUSY = "the spool was busy too long"
NO_ANSWER = "the spool's disk does not answer"
CLOSE_SECONDS = 2.0
_AT_ONCE = 500
_log = logging.getLogger("insend_relay.producers")


@masked()
class _Wish(NamedTuple):
    entry: Entry | InvalidEntry
    slot: str
    kept: Future[None]


_Wishes = queue.SimpleQueue[_Wish | None]  # None ends the thread


class Spooling:
    """The spool as an InSend uses it; without ``INSEND_SPOOL`` it keeps nothing.

    Args:
        settings: Where the spool is, and Redis.

    Attributes:
        spool: The spool; None without one.
        wait_seconds: What a call waits until its event is written, or is at least being written.
    """

    _writing: tuple[threading.Thread, _Wishes] | None

    def __init__(self, settings: Settings) -> None:
        self.spool = Spool.of(settings)
        self.wait_seconds = settings.enqueue_timeout_ms / 1000 * WAIT_SHARE
        if self.spool is not None:
            self._flusher = Flusher(settings, self.spool)
        self._synced = settings.durability == "fsync"
        self._said = False
        self.begin_anew()
        _all.add(self)

    def may_take(self) -> bool:
        """Whether anything lies in the spool, so that it has to be asked; costs next to nothing."""
        if self.spool is None:
            return False
        try:
            return self.spool.may_hold()
        except SpoolError as error:
            self._complain(error)
            return False

    def must_take(self, entry: Entry | InvalidEntry) -> bool:
        """Whether an earlier event of the visitor lies in the spool, so that this one has to follow."""
        if self.spool is None:
            return False
        self._flusher.wake()  # what an earlier process has left there, too
        try:
            return self.spool.holds(entry.lanes)
        except SpoolError as error:
            self._complain(error)
            return False

    def keep(self, entry: Entry | InvalidEntry, slot: str = "") -> Future[None]:
        """Have the event written; the future's result comes when it is on disk, SpoolError when it cannot be.

        Args:
            entry: The event.
            slot: The slot of the call that tried to bring it into Redis, when nobody knows whether it did.
        """
        kept: Future[None] = Future()
        try:
            with self._lock:
                self._wishes().put(_Wish(entry, slot, kept))
        except RuntimeError as error:  # no more threads, or Python is shutting down
            kept.set_exception(SpoolError(f"no thread to write to the spool with: {error}"))
        return kept

    def close(self) -> None:
        """End the threads; a later call starts them anew."""
        if self.spool is None:
            return
        with self._lock:
            writing, self._writing = self._writing, None
            if writing is not None:
                writing[1].put(None)
        if writing is not None:
            writing[0].join(CLOSE_SECONDS)  # longer only while its disk does not answer
        self._flusher.close()

    def begin_anew(self) -> None:
        """In a forked child the parent's thread is not there, and its lock may be held for ever."""
        self._lock = threading.Lock()
        self._writing = None

    def _wishes(self) -> _Wishes:
        """The queue of the thread that writes; the lock is held."""
        if self._writing is None or not self._writing[0].is_alive():
            wishes: _Wishes = queue.SimpleQueue()
            thread = threading.Thread(target=self._write, args=(wishes,), name="insend-spool", daemon=True)
            thread.start()
            self._writing = thread, wishes
        return self._writing[1]

    def _write(self, wishes: _Wishes) -> None:
        ended = False
        while not ended:
            batch = [wishes.get()]
            while len(batch) < _AT_ONCE and not wishes.empty():
                batch.append(wishes.get())
            ended = None in batch
            self._write_down([wish for wish in batch if wish and wish.kept.set_running_or_notify_cancel()])

    def _write_down(self, batch: list[_Wish]) -> None:
        if not batch or self.spool is None:
            return
        try:
            entries = [(wish.entry, wish.slot) for wish in batch]
            self.spool.keep(entries, deadline=time.monotonic() + self.wait_seconds, synced=self._synced)
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers are to know and this thread to live
            refusal = error if isinstance(error, SpoolError) else SpoolError(f"the spool has a defect: {error!r}")
            for wish in batch:
                wish.kept.set_exception(refusal)
        else:
            for wish in batch:
                wish.kept.set_result(None)
            self._flusher.wake()

    def _complain(self, error: SpoolError) -> None:
        if not self._said:
            _log.error("%s", error)
        self._said = True


_all: weakref.WeakSet[Spooling] = weakref.WeakSet()


def _after_fork() -> None:
    for spooling in list(_all):
        spooling.begin_anew()


os.register_at_fork(after_in_child=_after_fork)
