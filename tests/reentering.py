"""Re-enters calls of an InSend where a signal handler or ``__del__`` could; run as a program, in a process of its own.

``python reentering.py WAY REDIS_URL NAMESPACE SPOOL`` prints what became of the events, as JSON: outcomes and numbers.
A call that waits for itself hangs the program: it then shows where, and ends.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import json
import random
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType
from typing import Any

from waiting import wait_until

from insend_relay.producers import AsyncInSend, InSend, NotAccepted

HANG_SECONDS = 500.0
OURS = ("/producers/", "/outbox/")
NOWHERE = "redis://127.0.0.1:1/0"
EVENTS = 3_000
outcomes: list[str] = []  # appending is one step for all threads


def make(kind: Any = InSend, **more: Any) -> Any:
    _, _, url, namespace, spool = sys.argv
    settings = {"redis_url": url, "namespace": namespace, "spool": spool, "enqueue_timeout_ms": 60_000, **more}
    return kind(app_key="test-app-key", domain="shop.example.com", **settings)


def send(insend: InSend, uid: str) -> None:
    """One event, and what became of it."""
    try:
        outcomes.append(f"{uid} {insend.link(visitor_uid=uid).where}")
    except NotAccepted as error:
        outcomes.append(f"{uid} not accepted: {error}")


class Reentry:
    """Runs something at the Nth line that the traced thread comes to in our code."""

    def __init__(self, at: int, run: Callable[[], None]) -> None:
        self.lines = 0
        self._at = at
        self._run = run

    def trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if not any(part in frame.f_code.co_filename for part in OURS):
            return None
        if event == "line":
            self.lines += 1
            if self.lines == self._at:
                self._run()  # Python does not trace the tracer
        return self.trace


def at_every_line(
    prepare: Callable[[], InSend], act: Callable[[InSend], None] = lambda insend: send(insend, "1")
) -> int:
    """Act on a new InSend, and call it once more inside, at each line in turn; how many lines there are."""
    at = 0
    while True:
        at += 1
        insend = prepare()
        reentry = Reentry(at, lambda: send(insend, "2"))  # noqa: B023 - it is called in this round
        sys.settrace(reentry.trace)
        try:
            act(insend)
        finally:
            sys.settrace(None)
        insend.close()
        if reentry.lines < at:
            return at - 1


def connected() -> InSend:
    """It has a connection."""
    insend: InSend = make()
    insend.connect()
    return insend


def stale() -> InSend:
    """Its connection is of no use any more."""
    insend = connected()
    insend._link._pools.get()._idle[0]._socket.shutdown(2)
    return insend


def spooling() -> InSend:
    """Redis is away, and the spool has an event."""
    insend: InSend = make(redis_url=NOWHERE)
    send(insend, "3")
    return insend


def followed() -> InSend:
    """Redis is there, and the spool has an earlier event of the visitor, which stays there."""
    spooling().close()
    insend: InSend = make()
    assert insend._spooling.spool
    if not _flushing:
        _flushing.append(insend._spooling.spool.flushing())
        _flushing[0].__enter__()
    return insend


_flushing: list[AbstractContextManager[bool]] = []


def from_signals(insend: InSend) -> int:
    """Events from a signal handler that interrupts others at random."""

    def handler(*_: object) -> None:
        send(insend, "2")
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00005, 0.001))

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    sent = 0
    while sent < EVENTS:
        send(insend, "1")
        sent += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    return sent


class Garbage:
    """Sends an event when the garbage collector finds it."""

    def __init__(self, insend: InSend) -> None:
        self.insend = insend
        self.cycle = self

    def __del__(self) -> None:
        send(self.insend, "2")


def all_collected() -> int:
    """Return when all garbage has sent its events, in whatever thread the collector ran; how many pieces there were."""
    gc.set_threshold(700, 10, 10)
    gc.collect()
    wait_until(lambda: len(outcomes) >= 2 * EVENTS)
    return EVENTS


def from_garbage(insend: InSend) -> int:
    """Events from ``__del__``, wherever the collector runs."""
    gc.set_threshold(7, 2, 2)
    for _ in range(EVENTS):
        Garbage(insend)
        send(insend, "1")
    return all_collected()


def from_garbage_in_loops(insend: InSend) -> int:
    """Two event loops in threads, and garbage that sends events in the middle of theirs."""
    ainsend = make(AsyncInSend)

    async def calls() -> None:
        for _ in range(EVENTS // 2):
            Garbage(insend)
            outcomes.append(f"1 {(await ainsend.link(visitor_uid=1)).where}")
        await ainsend.aclose()

    gc.set_threshold(7, 2, 2)
    threads = [threading.Thread(target=asyncio.run, args=(calls(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return all_collected()


WAYS: dict[str, Callable[[], int]] = {
    "lines of the first call": lambda: at_every_line(make),
    "lines of a later call": lambda: at_every_line(connected),
    "lines of a call on a stale connection": lambda: at_every_line(stale),
    "lines of a call that is spooled": lambda: at_every_line(spooling),
    "lines of a call that follows into the spool": lambda: at_every_line(followed, lambda insend: send(insend, "3")),
    "lines of the making": lambda: at_every_line(make, lambda _: send(make(), "1")),
    "lines of the closing": lambda: at_every_line(connected, lambda insend: insend.close()),
    "signals": lambda: from_signals(make()),
    "signals, without Redis": lambda: from_signals(make(redis_url=NOWHERE)),
    "garbage": lambda: from_garbage(make()),
    "garbage, without Redis": lambda: from_garbage(make(redis_url=NOWHERE)),
    "garbage in two event loops": lambda: from_garbage_in_loops(make()),
}

if __name__ == "__main__":
    faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
    Path(sys.argv[4]).unlink(missing_ok=True)
    number = WAYS[sys.argv[1]]()
    print(json.dumps({"number": number, "outcomes": Counter(outcomes)}))  # noqa: T201 - for the test that started it
