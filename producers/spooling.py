"""Into the spool instead of Redis: when Redis cannot take an event, or an earlier one of its visitor lies there.

One thread of the process writes, so that all events that came while it waited for the disk share the next fsync; a call
waits for its own. The same thread serves threads, greenlets and event loops. A call holds no lock, so it may be
re-entered at any point.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque

from insend_relay.outbox.background import Background
from insend_relay.outbox.entry import Entry, InvalidEntry
from insend_relay.outbox.errors import SpoolBusy, SpoolError
from insend_relay.outbox.process import PerProcess
from insend_relay.outbox.settings import Settings
from insend_relay.producers.spool_write import SpoolWrite
from insend_relay.spool.flush import Flusher
from insend_relay.spool.spool import Spool

# A disk may stall for seconds, and Redis's often is the same one: of 363,166 calls in 30 minutes of faults 3 waited for
# more than 140 ms. With the default time-out a call has its answer after 370 ms, though the outcome may be unknown.
WAIT_SHARE = 0.32  # of INSEND_ENQUEUE_TIMEOUT_MS: what a call waits for its event to be written
FSYNC_SECONDS = 0.04  # and, when it is being written by then, for the disk
TOO_BUSY = "the spool was busy too long"
NO_ANSWER = "the spool's disk does not answer"
CLOSE_SECONDS = 2.0
_MAX_BATCH = 500
_log = logging.getLogger("insend_relay.producers")


class SpoolUnknown(SpoolError):
    """The disk did not answer in time: the event may be in the spool or not."""


class Spooling:
    """The spool as an InSend uses it; without ``INSEND_SPOOL`` it keeps nothing.

    Args:
        settings: Where the spool is, and Redis.

    Attributes:
        spool: The spool; None without one.
        wait_seconds: What a call waits until its event is written, or is at least being written.
    """

    def __init__(self, settings: Settings) -> None:
        self.spool = Spool.of(settings) if settings.enabled else None
        self.wait_seconds = settings.enqueue_timeout_ms / 1000 * WAIT_SHARE
        if self.spool is not None:
            self._flusher = Flusher(settings, self.spool)
        self._synced = settings.durability == "fsync"
        self._complained = False
        self._writers = PerProcess(lambda _: _Writer(self), leave=_Writer.dismiss)

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
        """Whether an earlier event of the visitor lies in the spool, so that this one has to follow.

        True also when the spool is too busy to tell: into Redis, the event might overtake an earlier one.
        """
        if self.spool is None:
            return False
        self._flusher.wake()  # what an earlier process has left there, too
        try:
            return self.spool.holds(entry.lanes)
        except SpoolBusy:
            return True
        except SpoolError as error:
            self._complain(error)
            return False

    def keep(self, entry: Entry | InvalidEntry, slot: str = "") -> None:
        """Write an event; it is on disk when this returns.

        Args:
            entry: The event.
            slot: The slot of the call that tried to bring it into Redis, when the outcome is unknown.

        Raises:
            SpoolUnknown: It may be on disk or not.
            SpoolError: It is not.
        """
        arrived = threading.Lock()
        arrived.acquire()
        write = SpoolWrite(entry, slot, arrived.release)
        self.hand_over(write)
        try:
            arrived.acquire(timeout=self.wait_seconds)
            if not write.ended and not write.give_up():
                arrived.acquire(timeout=FSYNC_SECONDS)  # it is being written
        except AssertionError as error:  # gevent's BlockingSwitchOutError: a signal handler in its hub cannot wait
            if write.ended and write.error is None:
                return
            write.give_up()
            raise _outcome(write, f"this call cannot wait for the spool: {error!r}") from error
        if not write.ended or write.error is not None:
            raise _outcome(write)

    async def keep_async(self, entry: Entry | InvalidEntry, slot: str = "") -> None:
        """``keep`` for asyncio."""
        loop = asyncio.get_running_loop()
        arrived = asyncio.Event()

        def notify() -> None:
            try:
                loop.call_soon_threadsafe(arrived.set)
            except RuntimeError:  # the loop was closed meanwhile, and its call with it
                return

        write = SpoolWrite(entry, slot, notify)
        self.hand_over(write)
        await _wait(arrived, self.wait_seconds)
        if not write.ended and not write.give_up():
            await _wait(arrived, FSYNC_SECONDS)  # it is being written
        if not write.ended or write.error is not None:
            raise _outcome(write)

    def hand_over(self, write: SpoolWrite) -> None:
        """Give an event to the thread that writes, which is started if need be."""
        self._writers.get().add(write)

    def write_down(self, batch: list[SpoolWrite]) -> None:
        """Write events in one go; for the thread that writes."""
        if not batch or self.spool is None:
            return
        try:
            entries = [(write.entry, write.slot) for write in batch]
            self.spool.keep(entries, deadline=time.monotonic() + self.wait_seconds, synced=self._synced)
        except Exception as error:  # noqa: BLE001 - whatever it is, the calls are told and this thread lives
            refusal = error if isinstance(error, SpoolError) else SpoolError(f"the spool has a defect: {error!r}")
            for write in batch:
                write.end(refusal)
        else:
            for write in batch:
                write.end()
            self._flusher.wake()

    def close(self) -> None:
        """End the threads; a later call starts them anew."""
        if self.spool is None:
            return
        writer = self._writers.forget()
        if writer is not None:
            writer.end(CLOSE_SECONDS)  # longer only while its disk does not answer
        self._flusher.close()

    def _complain(self, error: SpoolError) -> None:
        if not self._complained:
            self._complained = True
            _log.error("%s", error)


class _Writer:
    """The thread that writes, and the events that wait for it; of one process."""

    def __init__(self, spooling: Spooling) -> None:
        self._spooling = spooling
        self._waiting: deque[SpoolWrite] = deque()
        self._thread = Background("insend-spool", self._write, wanted=lambda: bool(self._waiting))

    def add(self, write: SpoolWrite) -> None:
        if self._thread.is_current():
            raise SpoolError("this call interrupts the thread that writes to the spool, and cannot wait for it")
        self._waiting.append(write)
        try:
            self._thread.start()
        except RuntimeError as error:  # no more threads, or Python is shutting down
            if write.give_up():
                raise SpoolError(f"no thread to write to the spool with: {error}") from error
        self._thread.nudge()

    def dismiss(self) -> None:
        self._thread.dismiss()

    def end(self, seconds: float) -> None:
        self._thread.stop(seconds)

    def _write(self) -> None:
        while self._waiting or not self._thread.stopped:
            batch: list[SpoolWrite] = []
            while self._waiting and len(batch) < _MAX_BATCH:
                batch.append(self._waiting.popleft())
            self._spooling.write_down([write for write in batch if write.begin()])
            if not self._waiting and not self._thread.stopped:
                self._thread.wait()


async def _wait(arrived: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await arrived.wait()
    except TimeoutError:
        return


def _outcome(write: SpoolWrite, why: str = "") -> SpoolError:
    """Why a call must say that its event is not in the spool, or that this is unknown."""
    if write.error is not None:
        return write.error
    return SpoolError(why or TOO_BUSY) if write.given_up else SpoolUnknown(why or NO_ANSWER)
