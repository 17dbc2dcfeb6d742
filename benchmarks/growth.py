"""What becomes of the speed when much lies in Redis: it should stay what it was.

    python growth.py WHAT SIZE      one state: waiting, lanes, retry or dead

A state is laid up by the outbox's own scripts and looked at: how long an append, a claim of 32 lanes and all that
``insend status`` reads take (medians). Then a worker delivers out of it, to a tracker that answers at once.

What waits is drained whole: the rate is that of all its events from the first POST until nothing waits any more. (The
rate in the middle of its POSTs leaves out how a short drain begins, and how it ends: the last settles.) A worker that
is just up takes a second until it is at full speed, which is nothing in a million events and all of a thousand: few are
laid up again and again while the worker is frozen, three seconds of drains and more, and the first of them does not
count.

The other states have 100,000 events that are ready beside what has grown; the rate is that of about three seconds,
after the worker has got going.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench_data import Key, Runs
from entrants import RELAY_ENTRANT
from growth_state import State
from machinery import Group, Stub, fresh_redis, wait_for

from insend_relay.outbox.connection import connect

MILLION = 1_000_000
BESIDE = 100_000  # events that are ready beside what has grown
WARM = 10_000  # events after which a worker has got going
WINDOW_SECONDS = 3.5
DRAIN_SECONDS = 1_800.0
SAMPLE_SECONDS = 2.0
LOOK_SECONDS = 0.001  # between two looks whether a drain has ended
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
        """Events delivered a second, over as many whole drains as it takes."""
        self._empty()
        self._again(size)  # to get going
        events = seconds = 0.0
        while seconds < WINDOW_SECONDS:
            seconds += self._again(size)
            events += size
        return events / seconds

    def _again(self, size: int) -> float:
        """How long a further drain takes, in seconds."""
        time.sleep(IDLE_SECONDS)
        with self._workers.frozen():
            self._stub.answer_after(0)
            self._state.wait(size)
        return self._empty()

    def to_the_end(self) -> dict[str, Any]:
        """The rate of one drain, and every two seconds of it how far it was.

        That is seconds since the beginning, events delivered, MB of the workers and of Redis.
        """
        samples: dict[str, list[float]] = {"seconds": [], "delivered": [], "rss_megabytes": [], "redis_megabytes": []}
        start = time.monotonic()

        def sample() -> None:
            if time.monotonic() - start >= SAMPLE_SECONDS * len(samples["seconds"]):
                samples["seconds"].append(time.monotonic() - start)
                samples["delivered"].append(self._stub.count)
                samples["rss_megabytes"].append(self._workers.rss_megabytes)
                samples["redis_megabytes"].append(self._state.megabytes)

        taken = self._empty(sample)
        return {"per_second": self._stub.count / taken, "drain_seconds": taken, **samples}

    def _empty(self, meanwhile: Callable[[], None] = lambda: None) -> float:
        """Wait until nothing waits; seconds since the first POST."""

        def so() -> bool:
            self._workers.must_live()
            meanwhile()
            return not self._state.waiting

        wait_for("an empty outbox", so, DRAIN_SECONDS, LOOK_SECONDS)
        ended = time.monotonic()
        return ended - min(self._stub.times)


def look_at(what: str, size: int) -> dict[str, Any]:
    """Lay up, look, deliver."""
    with fresh_redis() as redis, connect(redis.url, timeout_seconds=120) as client, Stub() as stub:
        state = State(client)
        grow(state, what, size)
        figures: dict[str, Any] = state.look()
        stub.answer_after(0)
        with Group(RELAY_ENTRANT.command(0), RELAY_ENTRANT.environment(redis.url, stub.url)) as workers:
            drain = Drain(state, stub, workers)
            if what != "waiting":
                figures["per_second"] = drain.window()
            elif size == MILLION:
                figures |= drain.to_the_end()
            else:
                figures["per_second"] = drain.again_and_again(size)
    return figures


def plan(rounds: int, _: Runs) -> Iterator[Key]:
    """All states in turns."""
    for number in range(rounds):
        for what, size in STATES if number % 2 == 0 else reversed(STATES):
            yield {"what": what, "size": size, "round": number}


def measure(key: Key) -> dict[str, Any]:
    """One run of the plan."""
    return look_at(key["what"], key["size"])


def main() -> None:
    """By the command line's arguments."""
    what, size = [*sys.argv[1:], *["waiting", "1000"][len(sys.argv) - 1 :]]
    for name, figure in look_at(what, int(size)).items():
        shown = figure[-1] if isinstance(figure, list) else figure
        print(f"{name} -" if shown is None else f"{name} {shown:,.4g}")


if __name__ == "__main__":
    main()
