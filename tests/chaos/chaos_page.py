"""``docs/reliability.md``: what the longest chaos run came to, as a page. Nobody writes it by hand."""

from __future__ import annotations

import os
import platform
import sqlite3
from itertools import groupby

from chaos_run import Report

_PAGE = """# What happens when things break

Written by `make chaos MINUTES={minutes:g} SEED={seed}`; each run starts real processes (producers, a Redis with
`appendfsync {fsync}`, workers under prefork, threads and gevent, an independent tracker), breaks them by chance, heals,
drains, and compares what the producers were told with what the tracker received. It fails when

- an event that a call said to have kept was neither accepted by the tracker nor a dead letter;
- an event that a call said not to have kept arrived;
- a person's events arrived for the first time out of their order, across the login too;
- the tracker accepted an event twice that was not marked under `duplicates_possible`;
- the books did not balance, or something was still waiting, spooled or leased.

CI runs every fault once. This run: {minutes:g} minutes on {machine}, Python {python}, SQLite {sqlite}.

| | |
| --- | --- |
{figures}

The slowest call is that of any producer in any fault. "Accepted twice" counts events for which the tracker wrote 200
twice: it answered after the client had given up, or a worker was killed between the answer and writing it down.

| what was broken | how often |
| --- | --- |
{faults}
"""


def page(report: Report, *, minutes: float, fsync: str) -> str:
    """The page for a run."""
    figures = "\n".join(f"| {name} | {value:,.0f} |" for name, value in report.figures.items())
    rows = []
    for place, kinds in groupby(report.faults.items(), key=lambda kind: kind[0].partition(":")[0]):
        for name, times in kinds:
            rows.append(f"| **{place}**: {name.partition(': ')[2]} | {times} |")
    return _PAGE.format(
        minutes=minutes,
        seed=report.seed,
        fsync=fsync,
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        python=platform.python_version(),
        sqlite=sqlite3.sqlite_version,
        figures=figures,
        faults="\n".join(rows),
    )
