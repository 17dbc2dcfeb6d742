"""What a call takes under each INSEND_DURABILITY, as a multiple of ``memory`` under ``appendfsync everysec``.

All are measured in turns, on servers of one kind that run all the time; prints a table of medians and 99th percentiles,
and how many of the receipts were confirmed. The replica runs on the same machine: a network adds its round trip.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.outbox.connection import connect
from insend_relay.producers import InSend

ROUNDS, CALLS = 5, 400
WAYS = (  # INSEND_DURABILITY, appendfsync
    ("memory", "everysec"),
    ("memory", "always"),
    ("fsync", "always"),
    ("fsync", "everysec"),
    ("replicated", "everysec"),
    ("replicated", "always"),
)
PROPERTIES = {"key": "signup", "properties": {"note": "x" * 600}}


def begin(stack: ExitStack, folder: Path, durability: Any, fsync: str) -> InSend:
    """An InSend with a server of its own, and a replica where one is asked for."""
    config = {"appendfsync": fsync, "repl-diskless-sync-delay": "0"}
    server = EmbeddedRedis(folder / "primary", server="valkey", config=config).start()
    stack.callback(server.kill)
    if durability == "replicated":
        replica = EmbeddedRedis(folder / "replica", server="valkey", config=config).start()
        stack.callback(replica.kill)
        with connect(replica.url) as client:
            client.execute_command("REPLICAOF", "127.0.0.1", server.port)
        with connect(server.url) as client:
            while not client.execute_command("WAIT", 1, 1000):
                time.sleep(0.1)
    given = {"app_key": "bench", "domain": "shop.example.com"}
    insend = stack.enter_context(InSend(redis_url=server.url, durability=durability, **given))  # type: ignore[arg-type]
    insend.connect()
    return insend


def main() -> None:
    """Measure, and print."""
    taken: dict[tuple[str, str], list[float]] = {way: [] for way in WAYS}
    confirmed = dict.fromkeys(WAYS, 0)
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        producers = {way: begin(stack, Path(folder, "-".join(way)), *way) for way in WAYS}
        for _ in range(ROUNDS):
            for way, insend in producers.items():
                calls = CALLS if way != ("fsync", "everysec") else CALLS // 20
                for number in range(calls):
                    start = time.perf_counter()
                    receipt = insend.custom(visitor_uid=str(number), **PROPERTIES)  # type: ignore[arg-type]
                    taken[way].append((time.perf_counter() - start) * 1000)
                    confirmed[way] += receipt.confirmed
    base = statistics.median(taken[WAYS[0]])
    print("| INSEND_DURABILITY | appendfsync | p50 | p99 | confirmed |")
    print("| --- | --- | --- | --- | --- |")
    for way, times in taken.items():
        p50, p99 = statistics.median(times), statistics.quantiles(times, n=100)[98]
        share = confirmed[way] / len(times)
        print(f"| {way[0]} | {way[1]} | {p50 / base:.1f} x ({p50:.2f} ms) | {p99 / base:.1f} x | {share:.0%} |")


if __name__ == "__main__":
    main()
