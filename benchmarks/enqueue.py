"""What taking an event costs: the time of a call in a producer, and the memory that a waiting event holds in Redis.

A producer of each contestant enqueues carts, one after the other, from a process of its own, on a machine that does
nothing else. Ours checks the event and writes its JSON in the time that is measured; the others are handed the JSON.

    python enqueue.py [EVENTS]      one round
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from bench_data import Key, Runs
from entrants import BARE_ENTRANT, QUEUES, RELAY_ALWAYS, RELAY_ENTRANT, Entrant, by_name
from machinery import fresh_redis, percentile

from insend_relay.outbox.connection import connect

NOWHERE = "http://127.0.0.1:9/"  # nothing is delivered here
CALLS = 5_000
WARM = 200  # calls that are not counted
FILLED = 20_000
PRODUCERS = (BARE_ENTRANT, RELAY_ENTRANT, RELAY_ALWAYS, *QUEUES)
KEEPERS = (RELAY_ENTRANT, *QUEUES)


def enqueue(entrant: Entrant, events: int) -> dict[str, Any]:
    """Measure so many calls; the median and the slowest but one in a hundred, ms."""
    with fresh_redis(entrant.fsync) as redis:
        said = entrant.who.run(entrant.environment(redis.url, NOWHERE), "measure", events + WARM)
    taken = json.loads(said)[WARM:]
    return {"p50_ms": percentile(taken, 50), "p99_ms": percentile(taken, 99)}


def memory(entrant: Entrant, events: int) -> dict[str, Any]:
    """What Redis holds for each waiting cart, one per visitor; bytes."""
    with fresh_redis(entrant.fsync) as redis, connect(redis.url, timeout_seconds=60) as client:
        before = _held(client)
        entrant.who.run(entrant.environment(redis.url, NOWHERE), "fill", events, 1)
        return {"bytes": (_held(client) - before) / events}


def _held(client: Any) -> int:
    """All that Redis holds but the buffers of its clients and of its log."""
    info = client.info("memory")
    return int(info["used_memory"] - info["mem_clients_normal"] - info["mem_aof_buffer"])


def plan_enqueue(rounds: int, _: Runs) -> Iterator[Key]:
    """All in turns."""
    return ({"entrant": entrant.name, "round": number} for number in range(rounds) for entrant in PRODUCERS)


def measure_enqueue(key: Key) -> dict[str, Any]:
    """One run of the plan."""
    return enqueue(by_name(key["entrant"]), CALLS)


def plan_memory(rounds: int, _: Runs) -> Iterator[Key]:
    """All in turns."""
    return ({"entrant": entrant.name, "round": number} for number in range(rounds) for entrant in KEEPERS)


def measure_memory(key: Key) -> dict[str, Any]:
    """One run of the plan."""
    return memory(by_name(key["entrant"]), FILLED)


def main(events: int) -> None:
    """One round of all."""
    for entrant in PRODUCERS:
        calls = enqueue(entrant, events)
        held = f"   {memory(entrant, FILLED)['bytes']:7.0f} bytes waiting" if entrant in KEEPERS else ""
        print(f"{entrant.name:34} p50 {calls['p50_ms']:6.3f} ms   p99 {calls['p99_ms']:6.3f} ms{held}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else CALLS)
