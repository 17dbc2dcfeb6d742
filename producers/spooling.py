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
from concurrent.futures import Future
from typing import NamedTuple

from insend_relay.outbox.entry import Entry, InvalidEntry
from insend_relay.outbox.errors import SpoolError
from insend_relay.outbox.flush import Flusher
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.spool import Spool

WAIT_SHARE = 0.4  # of INSEND_ENQUEUE_TIMEOUT_MS: what a call waits for its turn to be written
FSYNC_SECONDS = 1.0  # and, once it is being written, for the disk
TOO_BUSY = "the spool was busy too long"
NO_ANSWER = "the spool's disk does not answer"
_AT_ONCE = 500
_log = logging.getLogger("insend_relay.producers")


class _Wish(NamedTuple):
    entry: Entry | InvalidEntry
    slot: str
    kept: Future[None]


class Spooling:
    """The spool as an InSend uses it; without ``INSEND_SPOOL`` it keeps nothing.

    Args:
        settings: Where the spool is, and Redis.

    Attributes:
        spool: The spool; None without one.
        wait_seconds: What a call waits for its turn.
    """

    _thread: threading.Thread | None

    def __init__(self, settings: Settings) -> None:
        self.spool = Spool.of(settings)
        self.wait_seconds = settings.enqueue_timeout_ms / 1000 * WAIT_SHARE
        if self.spool is not None:
            self._flusher = Flusher(settings, self.spool)
        self._said = False
        self._start_afresh()

    def must_take(self, entry: Entry | InvalidEntry) -> bool:
        """Whether an earlier event of the visitor lies in the spool, so that this one has to follow."""
        if self.spool is None:
            return False
        try:
            if not self.spool.may_hold():
                return False
            self._flusher.wake()  # what an earlier process has left there, too
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
        if self._pid != os.getpid():
            self._start_afresh()
        kept: Future[None] = Future()
        self._wishes.put(_Wish(entry, slot, kept))
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="insend-spool", daemon=True)
                self._thread.start()
        return kept

    def close(self) -> None:
        """End the threads; a later call starts them anew."""
        if self.spool is None:
            return
        with self._starting:
            thread, self._thread = self._thread, None
        if thread is not None and self._pid == os.getpid():
            self._wishes.put(None)
            thread.join()
        self._flusher.close()
        self.spool.close()

    def _start_afresh(self) -> None:
        self._pid = os.getpid()
        self._wishes: queue.SimpleQueue[_Wish | None] = queue.SimpleQueue()
        self._starting = threading.Lock()
        self._thread = None

    def _write(self) -> None:
        wishes = self._wishes
        while (wish := wishes.get()) is not None:
            batch = [wish]
            while len(batch) < _AT_ONCE and not wishes.empty() and (more := wishes.get()) is not None:
                batch.append(more)
            self._write_down([each for each in batch if each.kept.set_running_or_notify_cancel()])

    def _write_down(self, batch: list[_Wish]) -> None:
        if not batch or self.spool is None:
            return
        try:
            entries = [(wish.entry, wish.slot) for wish in batch]
            self.spool.keep(entries, deadline=time.monotonic() + self.wait_seconds)
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
