"""The same SIGKILLs for us and for our peers: a plain Celery task per event, Dramatiq, and taskiq.

    python tests/chaos/chaos_peers.py [--seed SEED] [--events N] [--kills K]

One contestant after the other has a Redis of its own (``appendfsync always``), a tracker that answers 200 after 5 ms, a
producer that enqueues at a steady rate, and a group of workers that is killed every two to three seconds, at the same
moments for each, and started again at once. When kills and producer are done the group goes on in peace until all has
arrived and the queue is empty (what a killed worker had posted comes once more), or nothing comes any more. Then what
was enqueued is compared with what the tracker got. If something is missing, a few more events are enqueued, to see
whether it comes with them.

The peers' apps, and why each is set up as it is: ``benchmarks/peers/``. Ours has its defaults, but a lease as short as
the peers' recovery. Prints the results as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import secrets
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chaos_books import out_of_order as misplaced
from chaos_certificates import contexts
from chaos_contestants import CONTESTANTS, Contestant
from chaos_processes import Processes
from chaos_resolver import TRACKER
from chaos_run import end_tasks
from chaos_tracker import Event, Tracker

from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.operations.dead import DeadLetters
from insend_relay.outbox.connection import connect
from insend_relay.outbox.store import Outbox

HERE = Path(__file__).resolve().parent
ANSWER_SECONDS = 0.005
KILL_EVERY_SECONDS = (2.0, 3.0)
QUIET_SECONDS = 90.0  # nothing for so long: nothing more will come
DRAIN_SECONDS = 600.0
MORE = (20, 1, 2, 0, "more")  # twenty events of a visitor in ten seconds
MORE_SECONDS = 10.0
OURS = {
    "INSEND_APP_KEY": "chaos",
    "INSEND_DOMAIN": "shop.example.com",
    "INSEND_POST_TIMEOUT_SECONDS": "1",
    "INSEND_LEASE_SECONDS": "6",  # the least for this time-out
}


@dataclass(frozen=True)
class PeerResult:
    """What a contestant came to.

    Attributes:
        name: Whose result it is.
        versions: Of the packages that it consists of.
        kills: How often its workers were killed.
        enqueued: Events whose enqueueing call returned.
        delivered: Of these, how many arrived at least once.
        lost: How many have not arrived by the drain's end, and (ours) are no dead letters.
        late: Of the lost, how many came when a few more events were enqueued after the drain.
        pending: What its queue still held at the drain's end: waiting, or given to a worker and not acknowledged.
        duplicates: Events that the tracker accepted more than once.
        marked: How many of these were marked as possible duplicates beforehand; None: it has no such marks.
        out_of_order: First arrivals after a later event of the same visitor.
        drain_seconds: From the last restart (or the end of the enqueueing) to the last event's first arrival.
    """

    name: str
    versions: str
    kills: int
    enqueued: int
    delivered: int
    lost: int
    late: int
    pending: int
    duplicates: int
    marked: int | None
    out_of_order: int
    drain_seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)


@contextlib.contextmanager
def _tracking(folder: Path, chances: random.Random) -> Iterator[Tracker]:
    """A tracker in a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    tracker = Tracker(20 * ANSWER_SECONDS, chances, contexts(TRACKER, folder / "authority.pem"), lambda _: None)
    tracker.mode = "slow"  # it answers after a twentieth of that
    asyncio.run_coroutine_threadsafe(tracker.start(), loop).result(60)
    try:
        yield tracker
    finally:
        for work in (tracker.stop(), end_tasks()):
            asyncio.run_coroutine_threadsafe(work, loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _moments(seed: int, kills: int) -> list[float]:
    """When to kill, in seconds since the first event was enqueued."""
    chances, now, moments = random.Random(seed), 0.0, []
    for _ in range(kills):
        now += chances.uniform(*KILL_EVERY_SECONDS)
        moments.append(now)
    return moments


def _enqueued(log: Path) -> dict[Event, str]:
    """What the producer has written down; the ids are the contestant's own."""
    lines = (line.split() for line in log.read_text(encoding="utf-8").splitlines())
    return {Event(person, int(number)): id_ for person, number, id_ in lines}


class Contest:
    """One contestant's run.

    Args:
        folder: For its files.
        who: Whose it is.
        redis: Where its queue lies.
        tracker: Where its events go.
        moments: When its workers are killed.
    """

    def __init__(
        self, folder: Path, who: Contestant, redis: EmbeddedRedis, tracker: Tracker, moments: list[float]
    ) -> None:
        self.folder, self.who, self.redis, self.tracker, self.moments = folder, who, redis, tracker, moments
        self.log = folder / "enqueued"
        self._producers: list[subprocess.Popen[bytes]] = []
        url = f"http://127.0.0.1:{tracker.port}/watch/event"
        self._environ = who.environ(redis.url, url, RECOVER_SECONDS="5", **OURS)

    def _start_worker(self, _: int) -> subprocess.Popen[bytes]:
        with (self.folder / "worker.log").open("ab") as log:
            return subprocess.Popen(
                self.who.command(CONTESTANTS[self.who]),
                env=self._environ,
                cwd=HERE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _start_producer(self, log: Path, *arguments: object) -> subprocess.Popen[bytes]:
        command = self.who.producer("enqueue", *arguments)
        with log.open("wb") as out, (self.folder / "producer.log").open("ab") as errors:
            process = subprocess.Popen(
                command, env=self._environ, cwd=HERE, stdout=out, stderr=errors, start_new_session=True
            )
        self._producers.append(process)
        return process

    def run(self, *arguments: object) -> PeerResult:
        """Enqueue by these arguments of the producer, and kill; drain; compare."""
        self.workers = Processes(1, self._start_worker)
        try:
            producer = self._start_producer(self.log, *arguments)
            while not self.log.stat().st_size and producer.poll() is None:
                time.sleep(0.01)
            start = time.monotonic()
            for moment in self.moments:
                time.sleep(max(0.0, start + moment - time.monotonic()))
                self.workers.send(0, signal.SIGKILL, group=True)
                self.workers[0].wait()
                self.workers.revive()
            if producer.wait(DRAIN_SECONDS):
                raise SystemExit(f"the producer of {self.who.name} failed: see {self.folder / 'producer.log'}")
            enqueued = _enqueued(self.log)
            with connect(self.redis.url, timeout_seconds=30) as client:
                drain_seconds = self._drain(set(enqueued), client)
                return self._result(enqueued, drain_seconds, client)
        finally:
            self.workers.end(signal.SIGKILL)
            for producer in self._producers:
                producer.kill()
                producer.wait()

    def _drain(self, enqueued: set[Event], client: Any) -> float:
        """Wait until all has arrived and the queue is empty, or nothing comes any more; seconds until the last came."""
        start = news = last = time.monotonic()
        posts, missing = 0, enqueued
        while time.monotonic() < min(news + QUIET_SECONDS, start + DRAIN_SECONDS):
            time.sleep(0.05)
            self.workers.revive()
            if len(self.tracker.arrivals) > posts:
                posts, news = len(self.tracker.arrivals), time.monotonic()
            if came := missing & self._accepted().keys():
                missing, last = missing - came, time.monotonic()
            if not missing and not self.who.pending(client):
                break
        return last - start

    def _accepted(self) -> Counter[Event]:
        """How often the tracker has accepted each event."""
        return Counter(arrival.event for arrival in self.tracker.arrivals if arrival.accepted)

    def _result(self, enqueued: dict[Event, str], drain_seconds: float, client: Any) -> PeerResult:
        accepted, out_of_order = self._accepted(), misplaced(self.tracker.arrivals)
        doubled = {event for event, times in accepted.items() if times > 1}
        pending = self.who.pending(client)
        dead, doubtful = self._marks(client)
        lost = {event for event, id_ in enqueued.items() if event not in accepted and id_ not in dead}
        return PeerResult(
            name=self.who.name,
            versions=self.who.versions(),
            kills=len(self.moments),
            enqueued=len(enqueued),
            delivered=sum(event in accepted for event in enqueued),
            lost=len(lost),
            late=self._late(lost),
            pending=pending,
            duplicates=len(doubled),
            marked=sum(enqueued[event] in doubtful for event in doubled) if self.who.ours else None,
            out_of_order=len(out_of_order),
            drain_seconds=round(drain_seconds, 1),
        )

    def _late(self, lost: set[Event]) -> int:
        """How many of these come with more events."""
        if lost:
            self._start_producer(self.folder / "more", *MORE).wait(DRAIN_SECONDS)
            time.sleep(MORE_SECONDS)
        return len(lost & self._accepted().keys())

    def _marks(self, client: Any) -> tuple[set[str], set[str]]:
        """Our dead letters and doubtful events, by id."""
        if not self.who.ours:
            return set(), set()
        outbox = Outbox(client)
        dead = {letter.id.hex for letter in DeadLetters(outbox).scan()}
        return dead, {event_id.hex() for event_id in outbox.read("ZRANGE", outbox.keys.doubtful, 0, -1)}


def compare(folder: Path, *, seed: int, events: int = 6_000, kills: int = 12, visitors: int = 200) -> list[PeerResult]:
    """Run every contestant, one after the other; about two minutes each."""
    per_second = events / (kills * sum(KILL_EVERY_SECONDS) / 2)
    results = []
    for who in CONTESTANTS:
        place = folder / who.app
        place.mkdir(parents=True)
        config = {"appendfsync": "always"}
        with (
            EmbeddedRedis(place / "redis", server="redis", config=config) as redis,
            _tracking(place, random.Random(seed)) as tracker,
        ):
            contest = Contest(place, who, redis, tracker, _moments(seed, kills))
            results.append(contest.run(events, visitors, per_second, seed))
    return results


def main() -> None:
    """By the command line's arguments."""
    parser = argparse.ArgumentParser(description="Kill our workers and those of our peers at the same moments.")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9), help="of an earlier run")
    parser.add_argument("--events", type=int, default=6_000)
    parser.add_argument("--kills", type=int, default=12)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        results = compare(Path(folder), seed=given.seed, events=given.events, kills=given.kills)
    report = {"seed": given.seed, "results": [result.as_dict() for result in results]}
    print(json.dumps(report, indent=2))  # noqa: T201 - this is its purpose


if __name__ == "__main__":
    main()
