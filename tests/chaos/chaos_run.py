"""One chaos run: real processes under a seeded schedule of faults, and the books of both sides compared at its end.

Producers and workers reach Redis, and workers the tracker, through proxies. Every fault is undone after its time; at
the end everything is healed and drained, and then

- every event that a call said to have kept was accepted by the tracker, or is a dead letter;
- what a call said not to have kept did not arrive;
- each person's events arrived for the first time in their order, across the login too;
- what the tracker accepted twice had been marked as doubtful when it was sent again;
- an event that kills its worker is a dead letter, and no other event was buried with it;
- nothing was sent to a tracker with a bad certificate;
- the relay's own books balance, and nothing waits, is spooled or leased.

A Redis that may lose its last writes (``everysec``, or a failover) is judged by what it may lose (``forgetting``).
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
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

sys.path.append(str(Path(__file__).resolve().parent.parent))
from chaos_books import Forgetting, Logs, Told, Witness, Wrong, life, what_is_wrong
from chaos_certificates import BAD, contexts
from chaos_processes import Processes, wait_for
from chaos_proxy import Proxy
from chaos_resolver import REDIS, TRACKER
from chaos_sender import Sender
from chaos_tracker import Event, Tracker
from faketime import ClockedRedis

from insend_relay.operations.audit import audit
from insend_relay.operations.books import events_waiting
from insend_relay.operations.dead import DeadLetters
from insend_relay.outbox.connection import connect
from insend_relay.outbox.errors import OutboxError
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.quarantine import CRASHED
from insend_relay.outbox.store import Outbox
from insend_relay.spool.spool import Spool
from insend_relay.worker.head import UNDECODABLE

T = TypeVar("T")
PROGRAM = "from insend_relay.console.commands.main import main; main()"
POOLS = ("prefork", "threads", "gevent")
DAY = 86_400
POST_SECONDS = 1.0
LEASE_SECONDS = POST_SECONDS + 5
STOP_SECONDS = 2.0
DELIVERY_SECONDS = 20.0  # from a call to the 200, when a fault is over and nothing else is broken
DEATHS = ("redis: killed and restarted", "redis: slow to load", "redis: disk takes no more")
FORGOTTEN_SECONDS = 3.0  # the two of everysec, and one in which a call and its note may lie apart
DRAIN_SECONDS = 240.0
LOOP_SECONDS = 240.0  # nothing in the loop of proxies and tracker takes so long, however busy the machine is
HERE = Path(__file__).parent
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
}


@dataclass
class Report:
    """What a run came to.

    Attributes:
        seed: With which it can be run again.
        faults: How often each kind was done.
        figures: Counts.
        wrong: What must not be, a sentence each; none when the run is good.
        slowest: The slowest call, as its producer wrote it down, and the fault of that time.
    """

    seed: int
    faults: dict[str, int]
    figures: dict[str, float]
    wrong: list[str]
    slowest: str

    def as_json(self) -> str:
        """For a file."""
        return json.dumps(self.__dict__, indent=2)


class Run:
    """Everything that a run needs, from entering the block to leaving it.

    Args:
        folder: For all files.
        seed: Of all chances.
        fsync: Redis's appendfsync.
        durability: The producers' INSEND_DURABILITY.
        producers: How many processes.
        workers: How many.
        patience: How many times as long as on an idle machine a worker may take to stop, a pool to work, and all to
            drain, before the run calls it wrong. Whether a promise of so many seconds is kept says a run with 1, on an
            idle machine.
    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        *,
        fsync: str = "always",
        durability: str = "memory",
        producers: int = 2,
        workers: int = 2,
        patience: float = 1.0,
    ) -> None:
        self.durability = durability
        self.patience = patience
        self.forgetting: Forgetting | None = self._unsynced if fsync == "everysec" else None
        self.folder = folder
        self.seed = seed
        self.chances = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.when: list[tuple[float, str]] = []  # monotonic seconds, and the fault that began then
        self.redis = ClockedRedis(folder / "redis", server="redis", config={"appendfsync": fsync})
        self.wrong: list[str] = []  # what a fault has seen that must not be, a sentence each
        self.sender = Sender(folder / "told-here", lambda: self.redis.url)
        self.pools: dict[int, str] = {}  # of a worker's next start, where it is not left to chance
        self.pool: dict[int, str] = {}  # of each worker now
        self.newer_producers: set[int] = set()
        self.hung_seconds: float | None = None  # for workers that are started from now on
        self._log_begins: dict[int, int] = {}  # where in its log each worker's last start is
        self._numbers = producers, workers
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start_redis(self) -> None:
        """Have ``redis`` running."""
        self.redis.start()

    def end_redis(self) -> None:
        """End it."""
        self.redis.kill()

    def __enter__(self) -> Self:
        self.start_redis()
        self.logs = Logs(self.folder)
        self.witness = Witness(self.redis.url, self.logs)
        certificates = contexts(TRACKER, self.folder / "authority.pem")
        self.tracker = Tracker(1.5 * POST_SECONDS, self.chances, certificates, self.witness)
        self._thread.start()
        self.run(self.tracker.start())
        self.producers_redis, self.workers_redis = Proxy(self.redis.port), Proxy(self.redis.port)
        self.workers_tracker, self.workers_tls = Proxy(self.tracker.port), Proxy(self.tracker.tls_port)
        self.proxies = (self.producers_redis, self.workers_redis, self.workers_tracker, self.workers_tls)
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
        self.run(end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.witness.close()
        self.outbox.redis.close()  # type: ignore[attr-defined]  # it is a client of redis-py
        self.spool.close()
        self.end_redis()

    def run(self, work: Coroutine[Any, Any, T] | Awaitable[T]) -> T:
        """Do something in the loop in which proxies and tracker live."""

        async def do() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(do(), self._loop).result(LOOP_SECONDS)

    def in_loop(self, act: Callable[[], object]) -> None:
        """The same for a plain function."""

        async def do() -> None:
            act()

        self.run(do())

    def _environ(self, proxy: Proxy, host: str = REDIS, **more: str) -> dict[str, str]:
        ours = {name: str(value) for name, value in SETTINGS.items()}
        ours["INSEND_STOP_SECONDS"] = str(STOP_SECONDS * self.patience)
        url = f"redis://{host}:{proxy.port}/0"
        return {**os.environ, **ours, "INSEND_REDIS_URL": url, **more}

    def _clock(self) -> str:
        return str(self.chances.choice((-DAY, 0, 0, DAY)))

    def _start(self, arguments: list[str], environ: dict[str, str], log: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as output:
            return subprocess.Popen(
                [sys.executable, *arguments], env=environ, stdout=output, stderr=output, start_new_session=True
            )

    def _start_worker(self, at: int) -> subprocess.Popen[bytes]:
        """The first one speaks plain HTTP and is of a newer release, all others TLS."""
        log = self.folder / f"worker-{at}.log"
        self._log_begins[at] = log.stat().st_size if log.exists() else 0
        self.pool[at] = self.pools.pop(at, self.chances.choice(POOLS))
        more = {
            "INSEND_POOL": self.pool[at],
            "INSEND_PROCESSES": "2",
            "NO_PROXY": "*",
            "CHAOS_FOLDER": str(self.folder),
        }
        if at == 0:
            more |= {"INSEND_TRACKER_URL": f"http://{TRACKER}:{self.workers_tracker.port}/watch/event"}
            more |= {"CHAOS_NEWER": "1"}
        else:
            more |= {"INSEND_TRACKER_URL": f"https://{TRACKER}:{self.workers_tls.port}/watch/event"}
            more |= {"REQUESTS_CA_BUNDLE": str(self.folder / "authority.pem")}
        if self.hung_seconds is not None:
            more |= {"CHAOS_HUNG_SECONDS": str(self.hung_seconds)}
        arguments = [str(HERE / "chaos_worker.py"), self._clock(), "worker"]
        return self._start(arguments, self._environ(self.workers_redis, **more), f"worker-{at}.log")

    def _start_producer(self, at: int) -> subprocess.Popen[bytes]:
        more = {"CHAOS_NEWER": "1"} if at in self.newer_producers else {}
        more |= {"INSEND_SPOOL": str(self.folder / "spool.db"), "INSEND_DURABILITY": self.durability}
        environ = self._environ(self.producers_redis, **more)
        log = str(self.folder / f"told-{at}")
        arguments = [str(HERE / "chaos_producer.py"), log, str(at), "10", "100", self._clock()]
        return self._start(arguments, environ, f"producer-{at}.log")

    def must_deliver(self, events: list[Event], when: str) -> None:
        """Wait until the tracker has accepted these; one that is late is wrong.

        What is sent beside an event that kills its worker may rightly wait until that one is a dead letter.

        Args:
            events: Which.
            when: Since what moment they should be delivered, for the sentence that says what is wrong.
        """
        seconds = DELIVERY_SECONDS * self.patience
        self.with_workers(lambda: not self._deadly_ones_wait(), DRAIN_SECONDS * self.patience)
        if not self.with_workers(lambda: all(map(self.tracker.has, events)), seconds):
            late = [event.person for event in events if not self.tracker.has(event)]
            self.wrong.append(f"not delivered {seconds:g} s {when}: {late}")

    def _deadly_ones_wait(self) -> bool:
        people = {event.person for event in self.sender.deadly}
        lanes = [self.outbox.keys.lane(Lane("chaos", "v", person)) for person in people]
        try:
            return bool(lanes) and bool(self.outbox.read("EXISTS", *lanes))
        except OutboxError:
            return True

    def with_workers(self, so: Callable[[], object], seconds: float) -> bool:
        """Whether something came about, after at most so long; workers that have ended are started again meanwhile."""

        def so_by_now() -> object:
            self.workers.revive()
            return so()

        return wait_for(so_by_now, seconds)

    def compact(self) -> None:
        """Let Redis rewrite its append-only file: it would grow all the time, and with it how long a restart takes."""
        with connect(self.redis.url, timeout_seconds=30) as client:
            client.bgrewriteaof()
            wait_for(lambda: not client.info("persistence")["aof_rewrite_in_progress"], DRAIN_SECONDS * self.patience)

    def working(self, at: int) -> None:
        """Wait until a worker that was just started has its pool, and something to do."""
        wait_for(lambda: " ready." in self.log_of(at), 15 * self.patience)
        time.sleep(0.3)

    def log_of(self, at: int) -> str:
        """What a worker has written since it was started."""
        return (self.folder / f"worker-{at}.log").read_bytes()[self._log_begins[at] :].decode(errors="replace")

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
        give_up = time.monotonic() + DRAIN_SECONDS * self.patience
        while not self._drained() and time.monotonic() < give_up:
            self.workers.revive()
            if self.spool.may_hold():  # its producers have gone: what `insend spool flush` is for
                self._flush()
            time.sleep(0.1)
        self.workers.end(signal.SIGTERM)

    def _flush(self) -> None:
        environ = self._environ(self.producers_redis, "127.0.0.1", INSEND_SPOOL=str(self.folder / "spool.db"))
        command = [sys.executable, "-c", PROGRAM, "spool", "flush"]
        subprocess.run(command, env=environ, capture_output=True, timeout=DRAIN_SECONDS * self.patience, check=False)

    def _drained(self) -> bool:
        return self.waiting == 0 and not self.spool.may_hold()

    @property
    def waiting(self) -> int | None:
        """How many events wait in Redis; None when it cannot be asked."""
        try:
            return events_waiting(self.outbox)
        except OutboxError:
            return None

    def report(self) -> Report:
        """Compare what producers, tracker and relay have written down; when all is drained."""
        told, arrivals = self.logs.read(), self.tracker.arrivals
        letters = {letter.id.hex: letter.reason for letter in DeadLetters(self.outbox).scan()}
        doubtful = {event_id.hex() for event_id in self.outbox.read("ZRANGE", self.outbox.keys.doubtful, 0, -1)}
        found = what_is_wrong(told, arrivals, set(letters), doubtful)
        forgiven = [each for each in found if self.forgetting is not None and self.forgetting(each, told)]
        wrong = [
            f"{each.kind}: {each.event}: {life(each.event, told, arrivals, self.when)}"
            for each in found
            if each not in forgiven
        ]
        wrong += self._wrong_letters(told, letters, {each.event for each in forgiven})
        wrong += self.wrong
        wrong += [
            f"sent to a tracker with a certificate {one.certificate}: {one}"
            for one in arrivals
            if one.certificate in BAD
        ]
        books = audit(self.outbox)
        counts = books.counts
        wrong += [*books.findings, *(f"{counts['waiting']} still waiting" for _ in range(min(1, counts["waiting"])))]
        if self.spool.look().events:
            wrong.append(f"{self.spool.look().events} still in the spool")
        if leases := int(self.outbox.read("HLEN", self.outbox.keys.lease)):
            wrong.append(f"{leases} leases are left")
        away_p50_ms, away_p99_ms = told.away_p50_p99_ms
        figures = {
            "events": len(told.kept),
            "confirmed": len(told.sure),
            "spooled": told.spooled,
            "refused": len(told.refused),
            "posts": len(arrivals),
            "dead letters": len(letters),
            "accepted twice": sum(times > 1 for times in Counter(a.event for a in arrivals if a.accepted).values()),
            "marked doubtful": len(doubtful),
            "lost": sum(each.kind == "lost" for each in found),
            "out of order": sum(each.kind == "out of order" for each in found),
            "twice without a mark": sum(each.kind == "unmarked" for each in found),
            "slowest call ms": told.slowest_ms,
            "call while Redis is away, p50 ms": away_p50_ms,
            "call while Redis is away, p99 ms": away_p99_ms,
        }
        ended = float(told.slowest.rpartition(" ")[2] or 0)
        during = max(((at, name) for at, name in self.when if at <= ended), default=(0.0, ""))
        slowest = f"{told.slowest}, {ended - during[0]:.2f} s after {during[1]}"
        return Report(self.seed, dict(sorted(self.done.items())), figures, wrong, slowest)

    def _unsynced(self, wrong: Wrong, told: Told) -> bool:
        """Under ``everysec``: what Redis had taken in the last moments before it died, or knew of being sent."""
        if wrong.kind == "lost":
            return any(-1 < at - told.at[wrong.event] < FORGOTTEN_SECONDS for at, name in self.when if name in DEATHS)
        return wrong.kind == "unmarked"

    def _wrong_letters(self, told: Told, letters: dict[str, str], forgotten: set[Event]) -> list[str]:
        """What kills its worker is a dead letter for it, nothing else is, and none was read by too old a release."""
        deadly = {told.kept[event] for event in self.sender.deadly if event in told.kept and event not in forgotten}
        events = {event_id: event for event, event_id in told.kept.items()}
        crashed = {event_id for event_id, reason in letters.items() if reason == CRASHED}
        return [
            *(f"it kills its worker and is no dead letter: {events[event_id]}" for event_id in deadly - crashed),
            *(f"buried for another's sake: {events.get(event_id)}" for event_id in crashed - deadly),
            *(f"buried unread: {events.get(id_)}" for id_, reason in letters.items() if reason == UNDECODABLE),
        ]


async def end_tasks() -> None:
    """Connections that are still served, and those that were being taken when their server was closed."""
    while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.sleep(0)  # each begins: a connection whose task never did would be closed by nobody
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
