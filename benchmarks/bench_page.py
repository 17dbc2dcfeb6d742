"""``docs/benchmarks.md``: what the runs came to, as a page. Nobody writes it by hand; data and plots lie beside it."""

from __future__ import annotations

from typing import Any

from bench_claims import claims
from bench_data import DATA, Runs
from bench_tables import (
    claims_table,
    commands_table,
    enqueue_table,
    growth_table,
    idle_table,
    memory_table,
    server,
    setups_table,
    surroundings,
    throughput_tables,
    tuned_table,
    versions,
)

PAGE = DATA.with_suffix(".md")

_PAGE = """# How fast it is

Written by `make bench`; the raw data is in [benchmarks.json](benchmarks.json), the programs are in `benchmarks/`. Every
part measures all contestants in turns, round after round, on one machine that does nothing else; the figures are
medians, with the least and the most of all rounds beside them. What counts is the ratios: of two figures that were
measured together both suffer when a machine is slow.

## What must be shown

{claims}
{parts}

## How it is measured

The event is an `update_cart` of 733 bytes, the same bytes from all. Each run has a fresh Redis with an append-only file
(`appendfsync everysec`, where nothing else is said; not rewritten meanwhile, which would hit one run and not another)
and a fresh tracker, a stub in one process that spends about 20 us a request and answers 200 after a fixed time.
Contestants, Redis and stub share the machine's cores; the stub's CPU time is in no figure. Each library runs in an
environment of its own with pinned versions, among them hiredis for all, and uvloop and orjson for taskiq; why each app
is written as it is stands at its head in `benchmarks/peers/`.

**Not the same work.** Ours keeps each visitor's events in order, remembers doubtful deliveries, and keeps its books in
the same step as the event. The others do not keep an order. All acknowledge an event after the tracker's 200, and try
again after a failure; what happens when they are killed is in [reliability.md](reliability.md).

**Not measured**: a network (a round trip to Redis would cost all of them more, and those with many round trips an event
most), TLS, more than one machine, Redis with a replica.
"""

_THROUGHPUT = """
## Delivered events a second

![Events a second of each contestant at each delay](benchmarks/throughput.svg)

![CPU time an event](benchmarks/cpu.svg)

A backlog is laid up, then the workers are started. A figure is the rate from the moment when a sixth of the events has
arrived until nine tenths have, three seconds or more. "x Celery" is the ratio to plain Celery (prefork) at the same
delay. CPU is that of workers and Redis together, ms an event. RSS counts shared pages for each process, PSS shares them
out. "Reads" is how often Redis read from a connection, per event, "commands" what it ran, those inside scripts too.

{tables}

The workers, set up for each delay; ours are never tuned:

{commands}

{versions}.
"""

_ENQUEUE = """
## A call of a producer

![What a call takes](benchmarks/enqueue.svg)

One process, one call after the other, nothing else running. Ours checks the event and writes its JSON in that time; the
others are handed the JSON. `bare RPUSH` is one round trip with the same payload, by redis-py.

{table}
"""

_IDLE = """
## From the call to the tracker

![How long until the POST arrives](benchmarks/idle.svg)

An event every half second or so, so that all are idle each time: from the return of the producer's call until the whole
request is at the tracker.

{table}
"""

_MEMORY = """
## Memory in Redis

![Bytes of a waiting event](benchmarks/memory.svg)

What 20,000 waiting events, one of each visitor, add to Redis's memory, per event.

{table}
"""

_TUNED = """
## Without tuning

![Events a second by INSEND_CONCURRENCY](benchmarks/tuned.svg)

The defaults against the best `INSEND_CONCURRENCY`, which is the number of visitors per process. Every value was tried
once at each delay; the best two were measured again in turns with the default.

{table}
"""

_GROWTH = """
## When much lies in Redis

![Speed by what waits](benchmarks/growth.svg)

Medians of 200 appends, claims and statuses while no worker runs; then the rate at which a worker delivers out of that
state, to a tracker that answers at once. The first four are drained whole, from the first POST until nothing waits; a
thousand, again and again, take some 40 ms each time, of which about 3 ms are the settles after the last POST. The
others are a rate of about three seconds. With one visitor there is one event under way at a time, whatever the worker:
that is the order that is promised.

The wheel's Valkey has libc's malloc, which searches long for free chunks once a million values of a kilobyte lie in
its memory; servers are built with jemalloc elsewhere. `make bench PART=growth SERVER=/usr/bin/redis-server` measures
this part on another server; which one it was stands below.

{table}
{drain}
"""

_DRAIN = """
![A million events drain](benchmarks/drain.svg)

The first drain of 1,000,000 events took {seconds:,.0f} s, {rate:,.0f} events/s. The workers held {early:.0f} MB
after a tenth of the time, {late:.0f} MB after nine tenths, {most:.0f} MB at most.
"""

_SETUPS = """
## What was tried for the others

Each library's set-ups that its documentation offers for work that waits for a server, best first; "used" is what the
other parts measure. `2 x` is two workers side by side.

{table}
"""


def write_page(data: dict[str, Any]) -> None:
    """Write the page and its plots."""
    try:
        from bench_plots import draw  # noqa: PLC0415 - only here is matplotlib needed
    except ImportError:
        raise SystemExit("the plots need matplotlib: run `make bench`, which installs it into .venv") from None
    PAGE.write_text(written(data), encoding="utf-8")
    draw(data, PAGE.parent / "benchmarks")


def written(data: dict[str, Any]) -> str:
    """The page for what all parts came to."""
    parts = [_section(text, name, data) for name, text in _PARTS.items() if name in data]
    return _PAGE.format(claims=claims_table(claims(data)), parts="".join(parts).rstrip())


def _section(text: str, name: str, data: dict[str, Any]) -> str:
    part = data[name]
    runs: Runs = part["runs"]
    if name == "throughput":
        commands, ran = commands_table(part["commands"]), versions(part["versions"])
        filled = text.format(tables=throughput_tables(runs), commands=commands, versions=ran)
    elif name == "growth":
        filled = text.format(table=growth_table(runs), drain=_drain(runs)).rstrip() + "\n"
    elif name == "setups":
        filled = text.format(table=setups_table(runs, data.get("throughput", {}).get("commands", {})))
    else:
        filled = text.format(table=_TABLES[name](runs))
    shares = [run["others_share"] for run in runs if "others_share" in run]
    others = f" Whatever else ran took {max(0.0, *shares):.0%} of the CPU time at most, in any run." if shares else ""
    return f"{filled}\nOn {surroundings(part)}, {server(part['versions'])}.{others}\n"


def _drain(runs: Runs) -> str:
    drained = [run for run in runs if "delivered" in run]
    if not drained:
        return ""
    run = drained[0]
    rss = run["rss_megabytes"]
    tenth = len(rss) // 10
    return _DRAIN.format(
        seconds=run["drain_seconds"],
        rate=run["per_second"],
        early=rss[tenth],
        late=rss[-1 - tenth],
        most=max(rss),
    )


_TABLES = {
    "enqueue": enqueue_table,
    "idle": idle_table,
    "memory": memory_table,
    "tuned": tuned_table,
}
_PARTS = {
    "throughput": _THROUGHPUT,
    "enqueue": _ENQUEUE,
    "idle": _IDLE,
    "memory": _MEMORY,
    "tuned": _TUNED,
    "growth": _GROWTH,
    "setups": _SETUPS,
}
