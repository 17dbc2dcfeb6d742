"""What becomes of the speed when much lies in Redis: it should stay what it was.

    python growth.py WHAT SIZE      one state: waiting, lanes, retry or dead

A state is laid up by the outbox's own scripts and looked at: how long an append, a claim of 32 lanes and all that
``insend status`` reads take (medians), and how many events a second a worker delivers out of it, to a tracker that
answers at once. The rate is taken over three seconds or more, after the worker has got going; where fewer events wait
than that takes, they are laid up again and again, while the worker is frozen, and only the middle of each drain counts.
In the first round a million waiting events are drained to the end.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from bench_data import Key, Runs
from entrants import RELAY_ENTRANT
from growth_state import State
from machinery import Group, Stub, fresh_redis, wait_for
from throughput import FIRST, LAST

from insend_relay.outbox.connection import connect

MILLION = 1_000_000
BESIDE = 30_000  # events that are ready beside what has grown
WARM = 2_000  # events after which a worker has got going
WINDOW_SECONDS = 3.5
DRAIN_SECONDS = 1_800.0
SAMPLE_SECONDS = 2.0
IDLE_SECONDS = 0.03  # after the last event, until a worker has nothing in hand; it still looks for more
STATES = (
    *(("waiting", 10**power) for power in (3, 4, 5, 6)),
    *(("lanes", 10**power) for power in range(5)),
    ("retry", 100_000),
    ("dead", 100_000),
)


def grow(state: State, what: str, size: int) -> None:
    """Lay it up."""
    match what:
        case "waiting":
            state.wait(size)
        case "lanes":
            state.wait(BESIDE, BESIDE // size)
        case "retry":
            state.fail(size)
            state.wait(BESIDE)
        case "dead":
            state.bury(size)
            state.wait(BESIDE)
        case _:
            raise SystemExit(f"no such state: {what}")


class Drain:
    """A worker with defaults that drains a state.

    Args:
        state: What is there.
        stub: The tracker.
        workers: The group.
    """

    def __init__(self, state: State, stub: Stub, workers: Group) -> None:
        self._state, self._stub, self._workers = state, stub, workers

    def _has(self, events: float) -> None:
        def so() -> bool:
            self._workers.must_live()
            return self._stub.count >= events

        wait_for(f"{events:.0f} events", so, DRAIN_SECONDS)

    def window(self) -> float:
        """Events delivered a second while there are plenty."""
        self._has(WARM)
        time.sleep(WINDOW_SECONDS)
        times = sorted(self._stub.times)[WARM:]
        return (len(times) - 1) / (times[-1] - times[0])

    def again_and_again(self, size: int) -> float:
        """The same of few: over the middles of as many drains as it takes; the first is not counted."""
        self._has(1)
        counted = seconds = 0.0
        first = True
        while seconds < WINDOW_SECONDS:
            wait_for("an empty outbox", lambda: not self._state.waiting, DRAIN_SECONDS)
            time.sleep(IDLE_SECONDS)
            with self._workers.frozen():
                self._stub.answer_after(0)
                self._state.wait(size)
            self._has(size)
            times = sorted(self._stub.times)
            start, end = int(size * FIRST), int(size * LAST)
            if not first:
                counted += end - start
                seconds += times[end - 1] - times[start - 1]
            first = False
        return counted / seconds

    def to_the_end(self) -> dict[str, list[float]]:
        """Every two seconds: seconds since the beginning, events delivered, MB of the workers and of Redis."""
        samples: dict[str, list[float]] = {"seconds": [], "delivered": [], "rss_megabytes": [], "redis_megabytes": []}
        start = time.monotonic()
        while self._state.waiting:
            self._workers.must_live()
            samples["seconds"].append(time.monotonic() - start)
            samples["delivered"].append(self._stub.count)
            samples["rss_megabytes"].append(self._workers.rss_megabytes)
            samples["redis_megabytes"].append(self._state.megabytes)
            time.sleep(SAMPLE_SECONDS)
            if samples["seconds"][-1] > DRAIN_SECONDS:
                raise SystemExit(f"the drain did not end within {DRAIN_SECONDS:.0f} s")
        return samples


def look_at(what: str, size: int, *, to_the_end: bool = False) -> dict[str, Any]:
    """Lay up, look, deliver."""
    with fresh_redis() as redis, connect(redis.url, timeout_seconds=120) as client, Stub() as stub:
        state = State(client)
        grow(state, what, size)
        figures: dict[str, Any] = state.look()
        stub.answer_after(0)
        with Group(RELAY_ENTRANT.command(0), RELAY_ENTRANT.environment(redis.url, stub.url)) as workers:
            drain = Drain(state, stub, workers)
            few = what == "waiting" and size < BESIDE
            figures["per_second"] = drain.again_and_again(size) if few else drain.window()
            if to_the_end:
                figures |= drain.to_the_end()
                figures["middle_per_second"] = middle(figures)
    return figures


def middle(samples: dict[str, list[float]]) -> float:
    """Events a second between a sixth of the events and nine tenths."""
    points = list(zip(samples["seconds"], samples["delivered"], strict=True))
    most = points[-1][1]
    inside = [(start, end) for start, end in pairwise(points) if start[1] >= most * FIRST and end[1] <= most * LAST]
    if not inside:
        raise SystemExit("the drain was too short to have a middle")
    (first_seconds, first), (last_seconds, last) = inside[0][0], inside[-1][1]
    return (last - first) / (last_seconds - first_seconds)


def plan(rounds: int, _: Runs) -> Iterator[Key]:
    """All states in turns."""
    for number in range(rounds):
        for what, size in STATES if number % 2 == 0 else reversed(STATES):
            yield {"what": what, "size": size, "round": number}


def measure(key: Key) -> dict[str, Any]:
    """One run of the plan."""
    all_of_it = key["size"] == MILLION and key["round"] == 0
    return look_at(key["what"], key["size"], to_the_end=all_of_it)


def main() -> None:
    """By the command line's arguments."""
    what, size = [*sys.argv[1:], *["waiting", "1000"][len(sys.argv) - 1 :]]
    for name, figure in look_at(what, int(size)).items():
        print(f"{name} {figure:,.4g}" if figure is not None else f"{name} -")


if __name__ == "__main__":
    main()
