"""Delivered events a second, and what an event costs: a backlog is laid up, then the workers are let at it.

What counts is the middle of the run: from the moment when a sixth of the events has arrived until nine tenths have. So
neither the start of the workers nor the last few answers are in it. CPU time is that of all processes between these two
moments, the stub's apart: the workers', and Redis's.

    python throughput.py NAME [DELAY_MS] [LANE] [EVENTS] [SETTING=VALUE...] [-- COMMAND]      one run, for daily work
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

from bench_data import Key, Runs
from entrants import DELAYS_MS, ENTRANTS, RELAY_ENTRANT, Entrant, Setup, by_name
from machinery import Group, Stub, busy_seconds, cpu_seconds, fresh_redis, wait_for

from insend_relay.outbox.connection import connect

FIRST, LAST = 1 / 6, 0.9
BACKLOG_SECONDS = 4.5  # what a run gets, so that its middle lasts more than three
LEAST_EVENTS = 60
WAVES = 10
OTHERS_SHARE = 0.1  # of the machine's CPU time: more, and the run is done again
TRIES = 3
RUN_SECONDS = 300.0
PATIENCE = {"INSEND_ENQUEUE_TIMEOUT_MS": "60000"}  # a disk that stalls while the backlog is laid up is no matter
LANES = (1, 4, 20)  # events of one visitor; only ours keeps them in order


@dataclass(frozen=True)
class Run:
    """What one run came to.

    Attributes:
        per_second: Events delivered a second.
        cpu_ms: CPU time of workers and Redis together, ms an event.
        redis_ms: Redis's part of it.
        stub_ms: The stub's, which is not in it.
        rss_megabytes: What all processes of the workers held towards the end, shared pages counted for each.
        pss_megabytes: The same, shared pages shared out.
        redis_reads: How often Redis read from a connection, per event: about its round trips.
        redis_commands: Commands that Redis ran, per event; those inside scripts count.
        others_share: Of the machine's CPU time, what went to nobody who takes part: should be next to nothing.
    """

    per_second: float
    cpu_ms: float
    redis_ms: float
    stub_ms: float
    rss_megabytes: float
    pss_megabytes: float
    redis_reads: float
    redis_commands: float
    others_share: float

    def as_dict(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)


class _Course:
    """A run under way: what has been used up so far.

    Args:
        workers: Those that are measured.
        stub: The tracker.
        client: Redis's; None when the entrant needs none.
        redis_pids: Redis's process.
    """

    def __init__(self, workers: Group, stub: Stub, client: Any, redis_pids: list[int]) -> None:
        self._workers, self._stub, self._client, self._redis_pids = workers, stub, client, redis_pids

    def state(self) -> tuple[float, ...]:
        """Events, CPU seconds of workers, Redis and stub, of all others, reads and commands of Redis, and the time."""
        stats: dict[str, int] = self._client.info("stats") if self._client else {}
        cpu = [cpu_seconds(*pids) for pids in (self._workers.pids, self._redis_pids, [self._stub.pid])]
        others = busy_seconds() - sum(cpu) - cpu_seconds(os.getpid())
        asked = (stats.get(name, 0) for name in ("total_reads_processed", "total_commands_processed"))
        return (self._stub.count, *cpu, others, *asked, time.monotonic())

    def has(self, name: str, events: float) -> None:
        """Wait until so many have arrived."""

        def so() -> bool:
            self._workers.must_live()
            return self._stub.count >= events

        wait_for(f"{events:.0f} events of {name}", so, RUN_SECONDS)


def deliver(entrant: Entrant, stub: Stub, *, delay_ms: int, lane: int, events: int) -> Run:
    """Lay up a backlog of carts, ``lane`` of each visitor, and have it delivered."""
    with ExitStack() as stack:
        client, redis_pids, redis_url = None, [], ""
        if entrant.queued:
            redis = stack.enter_context(fresh_redis(entrant.fsync))
            client = stack.enter_context(connect(redis.url, timeout_seconds=60))
            redis_pids, redis_url = [redis.pid], redis.url
        environ = entrant.environment(redis_url, stub.url)
        if entrant.queued:
            entrant.who.run(environ | PATIENCE, "fill", events, lane)
        stub.answer_after(delay_ms / 1000)
        with Group(entrant.command(delay_ms), environ) as workers:
            course = _Course(workers, stub, client, redis_pids)
            course.has(entrant.name, events * FIRST)
            first = course.state()
            course.has(entrant.name, events * LAST)
            last, rss, pss = course.state(), workers.rss_megabytes, workers.pss_megabytes
            times = sorted(stub.times)
    count, worker_cpu, redis_cpu, stub_cpu, others, reads, commands, seconds = (
        b - a for a, b in zip(first, last, strict=True)
    )
    start, end = int(events * FIRST), int(events * LAST)
    return Run(
        per_second=(end - start) / (times[end - 1] - times[start - 1]),
        cpu_ms=(worker_cpu + redis_cpu) / count * 1000,
        redis_ms=redis_cpu / count * 1000,
        stub_ms=stub_cpu / count * 1000,
        rss_megabytes=rss,
        pss_megabytes=pss,
        redis_reads=reads / count,
        redis_commands=commands / count,
        others_share=others / seconds / len(os.sched_getaffinity(0)),
    )


def undisturbed(entrant: Entrant, *, delay_ms: int, lane: int = 1, seconds: float = BACKLOG_SECONDS) -> Run:
    """The same with a stub of its own and a backlog for so many seconds, and again when somebody else was at work.

    The least disturbed of three runs stands, if all were.
    """
    runs: list[Run] = []
    while len(runs) < TRIES and not any(run.others_share < OTHERS_SHARE for run in runs):
        with Stub() as stub:
            events = backlog(entrant, delay_ms, seconds)
            runs.append(deliver(entrant, stub, delay_ms=delay_ms, lane=lane, events=events))
    return min(runs, key=lambda run: run.others_share)


def backlog(entrant: Entrant, delay_ms: int, seconds: float = BACKLOG_SECONDS) -> int:
    """How many events a run gets: for so many seconds, and more where the POSTs under way come and go in waves."""
    return max(LEAST_EVENTS, round(entrant.setups[delay_ms].per_second * (seconds + WAVES * delay_ms / 1000)))


def plan(rounds: int, _: Runs) -> Iterator[Key]:
    """All in turns: each round has every entrant at every delay, the next round the other way round."""
    for number in range(rounds):
        for delay_ms in DELAYS_MS:
            order = [
                {"entrant": entrant.name, "delay_ms": delay_ms, "lane": lane, "round": number}
                for entrant in ENTRANTS
                for lane in (LANES if entrant is RELAY_ENTRANT else LANES[:1])
                if delay_ms in entrant.setups
            ]
            yield from order if number % 2 == 0 else reversed(order)


def measure(key: Key) -> dict[str, Any]:
    """One run of the plan."""
    return undisturbed(by_name(key["entrant"]), delay_ms=key["delay_ms"], lane=key["lane"]).as_dict()


def _split(words: list[str]) -> tuple[list[str], str]:
    at = words.index("--") if "--" in words else len(words)
    return words[:at], " ".join(words[at + 1 :])


def main() -> None:
    """By the command line's arguments."""
    words, command = _split(sys.argv[1:])
    environ = dict(word.split("=", 1) for word in words if "=" in word)
    given = [word for word in words if "=" not in word]
    name, delay, lane, events = [*given, *["Insend Relay", "0", "1", "0"][len(given) :]]
    found = by_name(name)
    entrant = dataclasses.replace(found, environ={**found.environ, **environ})
    if command:
        setups = {delay_ms: Setup(command, setup.per_second) for delay_ms, setup in entrant.setups.items()}
        entrant = dataclasses.replace(entrant, setups=setups)
    with Stub() as stub:
        number = int(events) or backlog(entrant, int(delay))
        run = deliver(entrant, stub, delay_ms=int(delay), lane=int(lane), events=number)
    print(" ".join(f"{what} {figure:,.4g}" for what, figure in run.as_dict().items()))


if __name__ == "__main__":
    main()
