"""One chaos run: real processes under a seeded schedule of faults, and the books of both sides compared at its end.

Producers and workers reach Redis, and workers the tracker, through proxies. Every fault is undone after its time; at
the end everything is healed and drained, and then

- every event that a call said to have kept was accepted by the tracker, or is a dead letter;
- what a call said not to have kept did not arrive;
- each person's events arrived for the first time in their order, across the login too;
- what the tracker accepted twice was marked as doubtful;
- the relay's own books balance, and nothing waits, is spooled or leased.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from chaos_proxy import Proxy
from chaos_tracker import Arrival, Event, Tracker

from insend_relay.console.embedded import EmbeddedRedis
from insend_relay.outbox.audit import audit
from insend_relay.outbox.connection import connect
from insend_relay.outbox.dead import DeadLetters
from insend_relay.outbox.errors import OutboxError
from insend_relay.outbox.spool import Spool
from insend_relay.outbox.store import Outbox

T = TypeVar("T")
POOLS = ("prefork", "threads", "gevent")
DAY = 86_400
POST_SECONDS = 1.0
LEASE_SECONDS = POST_SECONDS + 5
DRAIN_SECONDS = 240.0
HERE = Path(__file__).parent
WORKER = """
import sys, time
real, clock = time.time, float(sys.argv.pop(1))
time.time = lambda: real() + clock
time.time_ns = lambda: int((real() + clock) * 1e9)
from insend_relay.console.command import main
main()
"""
SETTINGS = {
    "INSEND_APP_KEY": "chaos",
    "INSEND_DOMAIN": "shop.example.com",
    "INSEND_POST_TIMEOUT_SECONDS": POST_SECONDS,
    "INSEND_LEASE_SECONDS": LEASE_SECONDS,
    "INSEND_RETRY_FIRST_SECONDS": 0.05,
    "INSEND_RETRY_MAX_SECONDS": 0.5,
    "INSEND_RETRY_AFTER_MAX_SECONDS": 1,
    "INSEND_OUTAGE_FIRST_SECONDS": 0.1,
    "INSEND_OUTAGE_MAX_SECONDS": 0.5,
    "INSEND_OUTAGE_CALM_SECONDS": 5,
    "INSEND_OUTAGE_REJECTED_SECONDS": 5,
    "INSEND_STOP_SECONDS": 2,
}


class Processes:
    """Processes of one kind, each a group of its own, started again when they have ended."""

    def __init__(self, number: int, start: Callable[[int], subprocess.Popen[bytes]]) -> None:
        self._start = start
        self.running = [start(at) for at in range(number)]

    def __getitem__(self, at: int) -> subprocess.Popen[bytes]:
        return self.running[at]

    def send(self, at: int, number: signal.Signals, *, group: bool = False) -> None:
        """Send one a signal, or its whole group."""
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.running[at].pid, number)

    def revive(self) -> None:
        """Start again what has ended, as a supervisor does."""
        for at, process in enumerate(self.running):
            if process.poll() is not None:
                self.send(at, signal.SIGKILL, group=True)  # a supervisor ends what a killed main process has left
                self.running[at] = self._start(at)

    def end(self, how: signal.Signals) -> None:
        """End all."""
        for at in range(len(self.running)):
            self.send(at, how)
        for at, process in enumerate(self.running):
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            self.send(at, signal.SIGKILL, group=True)
            process.wait()


@dataclass
class Told:
    """What the producers wrote down.

    Attributes:
        kept: The events that a call said to have kept, with their ids.
        refused: Those that it said not to have kept.
        spooled: How many of the kept ones went to the spool.
        slowest_ms: The slowest call.
    """

    kept: dict[Event, str] = field(default_factory=dict)
    refused: set[Event] = field(default_factory=set)
    spooled: int = 0
    slowest_ms: float = 0.0

    def read(self, log: Path) -> None:
        """Take in a producer's log; its last line may be torn."""
        for line in log.read_text().splitlines():
            parts = line.split()
            if parts[:1] != ["got"] or len(parts) != 6:
                continue
            event, where, event_id = Event(parts[1], int(parts[2])), parts[3], parts[4]
            self.slowest_ms = max(self.slowest_ms, float(parts[5]))
            if where in {"redis", "spool"}:
                self.kept[event] = event_id
                self.spooled += where == "spool"
            elif where == "refused":
                self.refused.add(event)


@dataclass
class Report:
    """What a run came to.

    Attributes:
        seed: With which it can be run again.
        faults: How often each kind was done.
        figures: Counts.
        wrong: What must not be, a sentence each; none when the run is good.
    """

    seed: int
    faults: dict[str, int]
    figures: dict[str, float]
    wrong: list[str]

    def as_json(self) -> str:
        """For a file."""
        return json.dumps(self.__dict__, indent=2)


class Run:
    """Everything that a run needs, from entering the block to leaving it.

    Args:
        folder: For all files.
        seed: Of all chances.
        fsync: Redis's appendfsync.
        producers: How many processes.
        workers: How many.
    """

    def __init__(self, folder: Path, seed: int, *, fsync: str = "always", producers: int = 2, workers: int = 2) -> None:
        self.folder = folder
        self.seed = seed
        self.chances = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.when: list[tuple[float, str]] = []  # monotonic seconds, and the fault that began then
        self.redis = EmbeddedRedis(folder / "redis", server="redis", config={"appendfsync": fsync})
        self._numbers = producers, workers
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.tracker = Tracker(1.5 * POST_SECONDS, self.chances)

    def __enter__(self) -> Self:
        self.redis.start()
        self._thread.start()
        self.run(self.tracker.start())
        self.producers_redis, self.workers_redis = Proxy(self.redis.port), Proxy(self.redis.port)
        self.workers_tracker = Proxy(self.tracker.port)
        self.proxies = (self.producers_redis, self.workers_redis, self.workers_tracker)
        for proxy in self.proxies:
            self.run(proxy.start())
        self.outbox = Outbox(connect(self.redis.url, timeout_seconds=30))
        self.spool = Spool(self.folder / "spool.db", namespace="insend", most_bytes=10**9)
        producers, workers = self._numbers
        self.workers = Processes(workers, self._start_worker)
        self.producers = Processes(producers, self._start_producer)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for processes in (self.producers, self.workers):
            processes.end(signal.SIGKILL)
        for proxy in self.proxies:
            self.run(proxy.stop())
        self.run(self.tracker.stop())
        self.run(_end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.outbox.redis.close()  # type: ignore[attr-defined]  # it is a client of redis-py
        self.spool.close()
        self.redis.kill()

    def run(self, work: Coroutine[Any, Any, T] | Awaitable[T]) -> T:
        """Do something in the loop in which proxies and tracker live."""

        async def do() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(do(), self._loop).result(60)

    def in_loop(self, act: Callable[[], object]) -> None:
        """The same for a plain function."""

        async def do() -> None:
            act()

        self.run(do())

    def _environ(self, proxy: Proxy, **more: str) -> dict[str, str]:
        ours = {name: str(value) for name, value in SETTINGS.items()}
        url = f"redis://127.0.0.1:{proxy.port}/0"
        return {**os.environ, **ours, "INSEND_REDIS_URL": url, **more}

    def _clock(self) -> str:
        return str(self.chances.choice((-DAY, 0, 0, DAY)))

    def _start(self, arguments: list[str], environ: dict[str, str], log: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as output:
            return subprocess.Popen(
                [sys.executable, *arguments], env=environ, stdout=output, stderr=output, start_new_session=True
            )

    def _start_worker(self, at: int) -> subprocess.Popen[bytes]:
        tracker = f"http://127.0.0.1:{self.workers_tracker.port}/watch/event"
        more = {"INSEND_POOL": self.chances.choice(POOLS), "INSEND_PROCESSES": "2", "INSEND_TRACKER_URL": tracker}
        environ = self._environ(self.workers_redis, **more)
        return self._start(["-c", WORKER, self._clock(), "worker"], environ, f"worker-{at}.log")

    def _start_producer(self, at: int) -> subprocess.Popen[bytes]:
        environ = self._environ(self.producers_redis, INSEND_SPOOL=str(self.folder / "spool.db"))
        log = str(self.folder / f"told-{at}")
        arguments = [str(HERE / "chaos_producer.py"), log, str(at), "10", "100", self._clock()]
        return self._start(arguments, environ, f"producer-{at}.log")

    def calm(self, seconds: float) -> None:
        """Let everything go on for a while, with what has ended started again."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.revive()
            time.sleep(0.05)

    def revive(self) -> None:
        """Start again what has ended."""
        self.workers.revive()
        self.producers.revive()

    def drain(self) -> None:
        """Stop the producers and wait until nothing is under way any more."""
        self.producers.end(signal.SIGTERM)
        give_up = time.monotonic() + DRAIN_SECONDS
        while not self._drained() and time.monotonic() < give_up:
            self.workers.revive()
            if self.spool.may_hold():  # its producers have gone: what `insend spool flush` is for
                self._flush()
            time.sleep(0.1)
        self.workers.end(signal.SIGTERM)

    def _flush(self) -> None:
        environ = self._environ(self.producers_redis, INSEND_SPOOL=str(self.folder / "spool.db"))
        command = [sys.executable, "-c", "from insend_relay.console.command import main; main()", "spool", "flush"]
        subprocess.run(command, env=environ, capture_output=True, timeout=60, check=False)

    def _drained(self) -> bool:
        try:
            waiting = int(self.outbox.read("HGET", self.outbox.keys.ledger, "waiting") or 0)
        except OutboxError:
            return False
        return not waiting and not self.spool.may_hold()

    def _life(self, line: str, arrivals: list[Arrival]) -> str:
        """What is known of the person in such a line: the faults' times, and each arrival."""
        person = line.partition("person='")[2].partition("'")[0]
        mine = [f"#{arrival.event.number} {arrival}" for arrival in arrivals if arrival.event.person == person]
        return f"arrivals {mine}; faults {[(round(at, 2), name) for at, name in self.when][-40:]}"

    def report(self) -> Report:
        """Compare what producers, tracker and relay have written down; when all is drained."""
        told = Told()
        for log in sorted(self.folder.glob("told-*")):
            told.read(log)
        arrivals = self.tracker.arrivals
        accepted = Counter(arrival.event for arrival in arrivals if arrival.accepted)
        dead = {letter.id.hex for letter in DeadLetters(self.outbox).scan()}
        doubtful = {event_id.hex() for event_id in self.outbox.read("ZRANGE", self.outbox.keys.doubtful, 0, -1)}
        wrong = [f"lost: {event}" for event, id_ in told.kept.items() if not accepted[event] and id_ not in dead]
        wrong += [f"arrived although it was refused: {event}" for event in told.refused if accepted[event]]
        wrong += _out_of_order(arrivals)
        doubled = {event for event, times in accepted.items() if times > 1}
        wrong += [
            f"accepted {accepted[event]} times and not marked: {event}"
            for event in doubled
            if event in told.kept and told.kept[event] not in doubtful
        ]
        wrong = [f"{line}: {self._life(line, arrivals)}" for line in wrong]
        books = audit(self.outbox)
        counts = books.counts
        wrong += [*books.findings, *(f"{counts['waiting']} still waiting" for _ in range(min(1, counts["waiting"])))]
        if self.spool.look().events:
            wrong.append(f"{self.spool.look().events} still in the spool")
        if leases := int(self.outbox.read("HLEN", self.outbox.keys.lease)):
            wrong.append(f"{leases} leases are left")
        figures = {
            "events": len(told.kept),
            "spooled": told.spooled,
            "refused": len(told.refused),
            "posts": len(arrivals),
            "dead letters": len(dead),
            "accepted twice": len(doubled),
            "marked doubtful": len(doubtful),
            "lost": sum(line.startswith("lost") for line in wrong),
            "out of order": sum("out of order" in line for line in wrong),
            "slowest call ms": told.slowest_ms,
        }
        return Report(self.seed, dict(sorted(self.done.items())), figures, wrong)


async def _end_tasks() -> None:
    """Connections that are still served."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _out_of_order(arrivals: list[Arrival]) -> list[str]:
    """First arrivals whose person's later event had arrived before them."""
    newest: dict[str, int] = {}
    seen: set[Event] = set()
    wrong = []
    for event in (arrival.event for arrival in arrivals):
        if event not in seen and event.number < newest.get(event.person, -1):
            wrong.append(f"out of order: {event} came after number {newest[event.person]}")
        seen.add(event)
        newest[event.person] = max(event.number, newest.get(event.person, -1))
    return wrong
