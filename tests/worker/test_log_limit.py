"""The worker's log: the first lines of a kind are written, further ones are counted, and a second has a few lines."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

import pytest
from waiting import PATIENCE_SECONDS

from insend_relay.worker.log_limit import (
    BURST_LINES,
    FIRST_OF_A_KIND,
    KINDS_AT_ONCE,
    LINES_PER_SECOND,
    MAX_KINDS,
    WINDOW_SECONDS,
    Allowance,
    LogLimit,
)


class Written(logging.Handler):
    """A log that is a list, limited, at a time of the test's own."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.tracebacks = 0
        self.now = 1_000.0
        self.due: tuple[float, Callable[[], None]] | None = None
        self.limit = LogLimit(self, Allowance(self.clock), self.clock, self._later)
        self.addFilter(self.limit)
        self.logger = logging.Logger("worker")  # noqa: LOG001 - one of its own for each test
        self.logger.addHandler(self)

    def clock(self) -> float:
        return self.now

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.tracebacks += bool(record.exc_info)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and the end of a window come when it is due."""
        self.now += seconds
        if self.due and self.now >= self.due[0]:
            _, flush = self.due
            self.due = None
            flush()

    def taken(self) -> list[str]:
        """What was written since the last look."""
        lines, self.lines = self.lines, []
        return lines

    def _later(self, seconds: float, function: Callable[[], None]) -> None:
        assert self.due is None, "one thread waits at a time"
        self.due = self.now + seconds, function


@pytest.fixture
def written() -> Written:
    """A limited log."""
    return Written()


def test_a_flapping_state_is_a_few_lines_and_then_its_last_change_with_a_number(written: Written) -> None:
    for _ in range(100):
        written.logger.warning("app %s: paused", "a", extra={"subject": "a"})
        written.logger.warning("app %s: goes on", "a", extra={"subject": "a"})
        written.pass_time(0.1)
    assert written.taken() == ["app a: paused", "app a: goes on"] * FIRST_OF_A_KIND
    written.pass_time(WINDOW_SECONDS)
    times = f"(this {100 - FIRST_OF_A_KIND} times more within 70 s)"
    assert written.taken() == [f"app a: paused {times}", f"app a: goes on {times}"]


def test_a_record_of_a_signal_handler_in_the_middle_of_another_is_written_too(written: Written) -> None:
    clock, interrupted = written.limit._clock, iter([True])

    def handler_strikes() -> float:
        if next(interrupted, False):  # as a signal does while the limit looks at the clock
            written.logger.warning("told to stop")
        return clock()

    written.limit._clock = handler_strikes
    thread = threading.Thread(target=written.logger.warning, args=("app a: paused",), daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
    assert written.taken() == ["told to stop", "app a: paused"]


def test_the_last_line_of_a_window_tells_the_state_that_holds(written: Written) -> None:
    for number in range(FIRST_OF_A_KIND + 3):
        written.logger.warning("goes on")
        written.logger.warning("paused") if number else None
    written.pass_time(WINDOW_SECONDS)
    assert written.taken()[-1].startswith("paused (this ")


def test_another_subject_is_another_kind(written: Written) -> None:
    for _ in range(FIRST_OF_A_KIND + 1):
        written.logger.warning("app %s: paused", "a", extra={"subject": "a"})
    written.taken()
    written.logger.warning("app %s: paused", "b", extra={"subject": "b"})
    assert written.taken() == ["app b: paused"]


def test_after_a_window_a_kind_is_written_at_once_again(written: Written) -> None:
    for _ in range(FIRST_OF_A_KIND):
        written.logger.warning("paused")
    assert len(written.taken()) == FIRST_OF_A_KIND
    assert written.due is None, "nothing was counted, so nothing waits"
    written.pass_time(WINDOW_SECONDS)
    written.logger.warning("paused")
    assert written.taken() == ["paused"]


def test_whatever_happens_no_more_lines_than_the_allowance(written: Written) -> None:
    """Each of these texts is a kind of its own."""
    seconds = 600
    for number in range(seconds * 20):
        written.logger.error(f"defect {number}")  # noqa: G004 - as some libraries do
        written.pass_time(0.05)
    most = BURST_LINES + seconds * LINES_PER_SECOND + (seconds / WINDOW_SECONDS) * (KINDS_AT_ONCE + 1)
    assert len(written.lines) <= most
    (first, *_) = (line for line in written.lines if "left out" in line)
    lines, kinds = (int(word) for word in first.split() if word.isdigit())
    assert 0 < kinds <= MAX_KINDS
    assert kinds <= lines


def test_a_critical_line_needs_no_allowance(written: Written) -> None:
    for number in range(200):
        written.logger.error(f"defect {number}")  # noqa: G004 - as some libraries do
    written.taken()
    written.logger.critical("leaving: %s", "hung")
    assert written.taken() == ["leaving: hung"]


def test_what_was_counted_is_written_when_the_process_ends(written: Written) -> None:
    for _ in range(FIRST_OF_A_KIND + 1):
        written.logger.warning("paused")
    written.taken()
    written.limit.flush()
    assert written.taken() == ["paused (this once more within 1 s)"]


def test_a_traceback_is_written_with_the_first_ones_only(written: Written) -> None:
    for _ in range(FIRST_OF_A_KIND + 1):
        written.logger.error("defect", exc_info=ZeroDivisionError())
    written.limit.flush()
    assert written.tracebacks == FIRST_OF_A_KIND
    assert len(written.taken()) == FIRST_OF_A_KIND + 1


def test_where_no_thread_can_be_had_logging_does_not_fail(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(written.limit, "_later", no_thread)
        for _ in range(FIRST_OF_A_KIND + 2):
            written.logger.warning("paused")
    assert len(written.taken()) == FIRST_OF_A_KIND
    written.logger.warning("paused")
    written.pass_time(WINDOW_SECONDS)
    assert written.taken() == ["paused (this 3 times more within 60 s)"]


def test_a_forked_process_counts_for_itself_and_shares_the_allowance(written: Written) -> None:
    for _ in range(FIRST_OF_A_KIND + 4):
        written.logger.warning("paused")
    written.taken()
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        try:
            written.due = None  # the thread that waits is not forked
            for number in range(100):
                written.logger.warning(f"defect {number}")  # noqa: G004 - as some libraries do
            os.write(theirs, str(len(written.lines)).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    os.waitpid(child, 0)
    assert int(os.read(ours, 9)) == BURST_LINES - FIRST_OF_A_KIND
    os.close(ours)
    written.logger.warning("other")
    assert written.taken() == [], "the child has used up the allowance"
    written.pass_time(WINDOW_SECONDS)
    assert written.taken()[0].startswith("paused (this 4 times more")
