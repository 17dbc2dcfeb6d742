"""How many lines a worker's log gets: a few a second, whatever happens, and no state change is lost from sight.

A fault that comes and goes many times a second (a flapping circuit breaker, a Redis that closes each connection) has
the same few messages again and again. The first ones of a kind are written at once. Further ones are counted for a
minute; then the last of them is written, at its own time, with their number. All kinds together share an allowance of
lines, which all processes of a worker draw from.
"""

from __future__ import annotations

import copy
import logging
import mmap
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from insend_relay.outbox.process import renew_in_children

WINDOW_SECONDS = 60.0
FIRST_OF_A_KIND = 5  # of a window: so many are written at once
LINES_PER_SECOND = 3.0
BURST_LINES = 30.0
KINDS_AT_ONCE = 10  # at the end of a window; of the others only the number is written
MAX_KINDS = 500  # that are remembered, in a window
SUMMARY = "%d more lines of %d kinds are left out"

_ALLOWANCE = struct.Struct("dd")
Kind = tuple[str, int, str, str]
Later = Callable[[float, Callable[[], None]], None]


class Allowance:
    """Lines that may be written now, in a page of memory that forked processes share.

    It is not locked: two processes that write at the same moment may take one line for two.

    Args:
        clock: Seconds, the same in all processes.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._page = mmap.mmap(-1, _ALLOWANCE.size)
        _ALLOWANCE.pack_into(self._page, 0, BURST_LINES, clock())

    def take(self) -> bool:
        """Whether one more line may be written."""
        left, at = _ALLOWANCE.unpack_from(self._page)
        now = self._clock()
        left = min(BURST_LINES, left + max(0.0, now - at) * LINES_PER_SECOND)
        enough: bool = left >= 1
        _ALLOWANCE.pack_into(self._page, 0, left - enough, now)
        return enough


@dataclass(slots=True)
class _Repeats:
    """What is known of one kind in a window.

    Attributes:
        written: How many were written at once.
        counted: How many were not.
        last: The last of those.
    """

    written: int = 0
    counted: int = 0
    last: logging.LogRecord | None = None


class LogLimit(logging.Filter):
    """Lets a record pass, or counts it; for one handler.

    Records are of one kind when logger, level and text before formatting are the same, and ``subject``, which a
    record may have (``extra={"subject": app}``). A critical record needs no allowance.

    Args:
        handler: Writes what was counted, at the end of a window.
        allowance: Shared with the worker's other processes.
        clock: Seconds.
        later: Calls a function after some seconds, in a thread of its own.
    """

    def __init__(
        self,
        handler: logging.Handler,
        allowance: Allowance,
        clock: Callable[[], float] = time.monotonic,
        later: Later | None = None,
    ) -> None:
        super().__init__()
        self._handler = handler
        self._allowance = allowance
        self._clock = clock
        self._later = later or _call_later
        self._start()
        renew_in_children(self._start)

    def _start(self) -> None:
        """Begin anew: a forked process has neither the thread that waits, nor what its parent counts."""
        self._lock = threading.RLock()  # a signal handler may log in the middle of another record
        self._writing = threading.local()
        self._kinds: dict[Kind, _Repeats] = {}
        self._window_from = self._clock()
        self._waits = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write the record now."""
        if getattr(self._writing, "counts", False):
            return True
        with self._lock:
            now = self._clock()
            if not self._waits and now - self._window_from >= WINDOW_SECONDS:
                self._kinds.clear()
                self._window_from = now
            repeats = self._kinds.setdefault(self._kind(record), _Repeats())
            allowed = repeats.written < FIRST_OF_A_KIND
            if allowed and (record.levelno >= logging.CRITICAL or self._allowance.take()):
                repeats.written += 1
                return True
            repeats.counted += 1
            repeats.last = record
            wait = not self._waits
            self._waits = True
        if wait:
            self._wait(max(0.0, self._window_from + WINDOW_SECONDS - now))
        return False

    def _wait(self, seconds: float) -> None:
        """Have the window ended after some seconds; a caller that logs must not fail because no thread can be had."""
        try:
            self._later(seconds, self.flush)
        except RuntimeError:  # no more threads, or Python is shutting down: the next record that is counted tries again
            self._waits = False

    def flush(self) -> None:
        """Write what was counted: the last of each kind with the number, in the order in which they came."""
        with self._lock:
            kinds, since = self._kinds, self._window_from
            self._kinds, self._window_from, self._waits = {}, self._clock(), False
        counted = [each for each in kinds.values() if each.last is not None]
        counted.sort(key=lambda each: each.counted, reverse=True)
        shown, others = counted[:KINDS_AT_ONCE], counted[KINDS_AT_ONCE:]
        seconds = max(1, round(self._clock() - since))
        self._writing.counts = True
        try:
            for each in sorted(shown, key=lambda each: each.last.created if each.last else 0.0):
                self._handler.handle(_with_number(each, seconds))
            if others:
                lines = sum(each.counted for each in others)
                text = (lines, len(others))
                self._handler.handle(
                    logging.LogRecord(__name__, logging.WARNING, __file__, 0, SUMMARY, text, exc_info=None)
                )
        finally:
            self._writing.counts = False

    def _kind(self, record: logging.LogRecord) -> Kind:
        kind = (record.name, record.levelno, str(record.msg), str(getattr(record, "subject", "")))
        if kind not in self._kinds and len(self._kinds) >= MAX_KINDS:
            return (record.name, record.levelno, "", "")  # texts that were formatted beforehand are a kind each
        return kind


def _with_number(repeats: _Repeats, seconds: int) -> logging.LogRecord:
    """The last of a kind, at its own time, with the number of those that were not written; without a traceback."""
    record = copy.copy(repeats.last)  # another handler may have it too
    assert record is not None  # noqa: S101 - the caller has looked
    times = f"{repeats.counted} times" if repeats.counted > 1 else "once"
    record.msg = f"{record.getMessage().rstrip()} (this {times} more within {seconds} s)"
    record.args, record.exc_info, record.exc_text = (), None, None
    return record


def _call_later(seconds: float, function: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    timer.start()
