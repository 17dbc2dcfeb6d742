"""``make bench``: measures, and writes ``docs/benchmarks.md``, its plots and ``docs/benchmarks.json``.

python bench_main.py [--part PART]... [--delay MS]... [--rounds N] [--server PROGRAM] [--resume]
                                                                                all, or these; each is written when done
python bench_main.py --quick                                                    a table in two minutes; writes nothing
python bench_main.py --page                                                     only the page, from the data
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import enqueue
import growth
import idle_latency
import quick
import setups
import throughput
import tuned
from bench_data import DATA, Key, Part, Runs, carry_out, mark, merge, read
from bench_page import write_page
from entrants import DELAYS_MS, ENTRANTS, QUEUES, RELAY_ENTRANT
from machinery import SERVER, fresh_redis, machine

from insend_relay.outbox.connection import connect
from insend_relay.outbox.errors import RelayError

PARTS = (
    Part("throughput", throughput.plan, throughput.measure),
    Part("enqueue", enqueue.plan_enqueue, enqueue.measure_enqueue),
    Part("memory", enqueue.plan_memory, enqueue.measure_memory),
    Part("idle", idle_latency.plan, idle_latency.measure),
    Part("tuned", tuned.plan, tuned.measure),
    Part("growth", growth.plan, growth.measure),
    Part("setups", setups.plan, setups.measure, rounds=3, usual=False),
)


def about(part: Part, rounds: int) -> dict[str, Any]:
    """When, on what and with what a part is measured."""
    with fresh_redis() as redis, connect(redis.url) as client:
        server = client.info("server") | client.info("memory")
    told: dict[str, Any] = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "rounds": rounds,
        "machine": machine(),
        "versions": {entrant.who.name: entrant.who.versions() for entrant in (RELAY_ENTRANT, *QUEUES)}
        | _server(server),
    }
    if part.name == "throughput":
        told["commands"] = {
            entrant.name: {str(delay_ms): setup.command for delay_ms, setup in entrant.setups.items()}
            for entrant in ENTRANTS
        }
    return told


def _server(server: dict[str, str]) -> dict[str, str]:
    """Its name, and its version with its allocator; what Valkey calls redis_version is what it can stand in for."""
    valkey = server.get("valkey_version")
    name, version = ("Valkey", valkey) if valkey else ("Redis", server["redis_version"])
    return {name: f"{version}, {server['mem_allocator']}"}


def say(words: str) -> None:
    """Tell how far it is."""
    print(f"{time.strftime('%H:%M:%S')} {words}", file=sys.stderr, flush=True)


def measure(parts: Sequence[Part], given: argparse.Namespace) -> None:
    """These parts, each with its place on the page as soon as it is done."""
    if not given.resume:
        _unmark(parts)
    for part in parts:
        if not mark(part.name).exists():
            _measure(part, given)
    _unmark(parts)


def _unmark(parts: Sequence[Part]) -> None:
    for part in parts:
        mark(part.name).unlink(missing_ok=True)


def _measure(part: Part, given: argparse.Namespace) -> None:
    rounds = given.rounds or part.rounds
    surroundings = about(part, rounds)
    if given.delay:
        part = dataclasses.replace(part, plan=_only(part.plan, given.delay))
    runs = carry_out(part, surroundings, rounds=rounds, resume=given.resume, say=say)
    if given.delay:  # those of other delays stay: a ratio is one of runs at the same delay
        before = read(DATA).get(part.name, {}).get("runs", [])
        runs = [run for run in before if run.get("delay_ms", given.delay[0]) not in given.delay] + runs
    write_page(merge(part.name, surroundings, runs))


def _only(plan: Callable[[int, Runs], Iterator[Key]], delays_ms: Sequence[int]) -> Callable[[int, Runs], Iterator[Key]]:
    return lambda rounds, runs: (key for key in plan(rounds, runs) if key.get("delay_ms", delays_ms[0]) in delays_ms)


def main() -> None:
    """By the command line's arguments."""
    parser = argparse.ArgumentParser(description="Measure Insend Relay beside its peers.")
    parser.add_argument("--part", action="append", choices=[part.name for part in PARTS], help="only this; repeatable")
    parser.add_argument(
        "--delay", action="append", type=int, choices=DELAYS_MS, help="only this, ms; repeatable; the others stay"
    )
    parser.add_argument("--server", help="another server than the wheel's Valkey, such as /usr/bin/redis-server")
    parser.add_argument("--rounds", type=int, help="instead of each part's usual number")
    parser.add_argument("--resume", action="store_true", help="go on where a break-off left a part")
    parser.add_argument("--quick", action="store_true", help="a few short runs and a table; writes nothing")
    parser.add_argument("--page", action="store_true", help="only write the page, from the data that is there")
    given = parser.parse_args()
    if given.rounds is not None and given.rounds < 1:
        parser.error("--rounds: at least 1")
    if given.server:
        if shutil.which(given.server) is None:
            parser.error(f"--server: no program {given.server}")
        os.environ[SERVER] = given.server
    try:
        for entrant in QUEUES:
            entrant.who.bin()  # makes its environment, when that is missing
        if given.quick:
            quick.main()
        elif given.page:
            write_page(read(DATA))
        else:
            measure([part for part in PARTS if (part.name in given.part if given.part else part.usual)], given)
    except RelayError as error:
        raise SystemExit(str(error)) from None
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"{' '.join(map(str, error.cmd))} failed; what it said stands above") from None
    except KeyboardInterrupt:
        raise SystemExit("broken off; --resume goes on from here") from None


if __name__ == "__main__":
    main()
