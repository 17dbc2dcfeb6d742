"""How long an event takes from the producer's call to the tracker when nothing else goes on.

Workers as in the other parts, a durable Redis (appendfsync everysec), a tracker that answers at once. An event every
half second or so, so that worker and producer are idle each time, and the worker has to be woken::

    python idle_latency.py [EVENTS]      one round of all
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from bench_data import Key, Runs
from entrants import QUEUES, RELAY_ENTRANT, Entrant, by_name
from machinery import Group, Stub, fresh_redis, percentile, wait_for

EVENTS = 50
WARM = 2  # events that are not counted: the first wakes all
ARRIVAL_SECONDS = 60.0
WAITERS = (RELAY_ENTRANT, *QUEUES)


def latencies(entrant: Entrant, events: int) -> dict[str, Any]:
    """Milliseconds, of each event: what the call took, and from its return to the whole request at the tracker."""
    with fresh_redis(entrant.fsync) as redis, Stub() as stub:
        environ = entrant.environment(redis.url, stub.url)
        stub.answer_after(0)
        with Group(entrant.command(0), environ) as workers:
            entrant.who.run(environ, "fill", 1, 1)

            def has(number: int) -> bool:
                workers.must_live()
                return stub.count >= number

            wait_for(f"the first event of {entrant.name}", lambda: has(1), ARRIVAL_SECONDS)
            said = entrant.who.run(environ, "drip", events + WARM)
            wait_for(f"the last event of {entrant.name}", lambda: has(1 + events + WARM), ARRIVAL_SECONDS)
            arrived = sorted(stub.times)[1 + WARM :]
    taken = json.loads(said)[WARM:]
    return {
        "call_ms": [call_ms for call_ms, _ in taken],
        "post_ms": [(at - returned) * 1000 for (_, returned), at in zip(taken, arrived, strict=True)],
    }


def plan(rounds: int, _: Runs) -> Iterator[Key]:
    """All in turns."""
    return ({"entrant": entrant.name, "round": number} for number in range(rounds) for entrant in WAITERS)


def measure(key: Key) -> dict[str, Any]:
    """One run of the plan."""
    return latencies(by_name(key["entrant"]), EVENTS)


def main(events: int) -> None:
    """One round of all."""
    for entrant in WAITERS:
        post_ms = latencies(entrant, events)["post_ms"]
        p50, p99, worst = percentile(post_ms, 50), percentile(post_ms, 99), max(post_ms)
        print(
            f"{entrant.name:14} accept to POST: p50 {p50:7.2f}   p99 {p99:7.2f}   worst {worst:7.2f}   ms", flush=True
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS)
