"""``docs/reliability.md``: what the longest chaos runs came to, as a page. Nobody writes it by hand.

Beside it lies the same as data, a part after the other, so that one part may be run anew.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import sqlite3
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

_PAGE = """# What happens when things break

Written by `make chaos`; `tests/chaos/` has what it does. Each part starts real processes, breaks them by
chance, heals, drains, and compares what producers were told with what the tracker received. CI runs every fault
of the first part once.
{parts}
"""

_ALWAYS = """
## Every fault, `appendfsync always`

`make chaos MINUTES={minutes:g} SEED={seed}`: two producer processes, two workers under prefork, threads and
gevent in turn, an independent tracker, and Redis. It fails when

- an event that a call said to have kept was neither accepted by the tracker nor a dead letter;
- an event that a call said not to have kept arrived;
- a person's events arrived for the first time out of their order, across the login too;
- an event was sent a second time that was not marked under `duplicates_possible` by then;
- an event that kills its worker was not buried after five times, or another was buried with it;
- an event was sent to a tracker with a bad certificate, or buried by a release too old to read it;
- a worker with a hung pool did not leave, one whose app was only paused did, or one that was told to stop did not in
  time;
- an event was not delivered 20 s after Redis's clock had been set, after connections to the tracker or a host's first
  address had died without a word, or after the tracker was back from an outage in which all workers had died;
- a process of a worker sent more than one event on connections that had all died at once, or any on one that had been
  idle for longer than it may be;
- the books did not balance, or something was still waiting, spooled or leased.

{figures}

The slowest call is that of any producer in any fault; "while Redis is away" are those that went to the spool
at once, an fsync each, on the disk to which Redis writes as well. "Accepted twice" counts events for which the tracker
wrote 200 twice: it answered after the client had given up, or a worker was killed between the answer and
writing it down.

{faults}
"""

_EVERYSEC = """
## The same faults, `appendfsync everysec`

`make chaos PART=everysec MINUTES={minutes:g} SEED={seed}`. A Redis that is killed may have lost what it took in
the last two seconds or so. The run fails when an event is lost that was kept longer before Redis died, or for
any other reason than above; what was lost, and what came twice because Redis had forgotten that it was sent, is
counted.

{figures}
"""

_FAILOVER = """
## Failover

`make chaos PART=failover MINUTES={minutes:g} SEED={seed}`: Redis has a replica (`min-replicas-to-write 1`), a
Sentinel promotes it, and producers ask for `INSEND_DURABILITY=replicated`. Connections that are open stay at
the old primary, which answers READONLY; new ones are led to the new primary. The run fails when an event is
lost whose receipt said `confirmed`, or for any other reason than above, also after a failover to a replica whose
clock is a minute or an hour late; what else was lost, and what came twice without a mark, is counted.

{figures}

{faults}
"""

_PEERS = """
## The same kills for others

`make chaos PART=peers SEED={seed}`: each contestant has a Redis with `appendfsync always` and a tracker that
answers after 5 ms. Its whole worker group gets SIGKILL every two to three seconds, at the same moments for
each, and is started again at once, while a producer enqueues at a steady rate; then it goes on in peace until
nothing comes any more. Each of the others is set up to lose least (`benchmarks/peers/` has the settings and
their reasons); Celery's and our recovery time are a few seconds, so that all had the time for it.

{rows}

The moments of the kills are the seed's; what is under way then is chance, and the figures differ from run to
run. "Lost" had not arrived when nothing came for 90 s, and for us is no dead letter either; "late" are those of
them that came when more events were enqueued after that; "pending" is what the queue still held then, to be
sent, perhaps once more, whenever something moves it. "Out of order" are first arrivals after a later event of
the same visitor; "marked" are duplicates of which somebody could be warned.
"""

_PARTS = {"always": _ALWAYS, "everysec": _EVERYSEC, "failover": _FAILOVER, "peers": _PEERS}


def join_page(page: Path, part: str, came_to: dict[str, Any]) -> None:
    """Put what a part came to into the page and the data beside it."""
    file = page.with_suffix(".json")
    data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    data[part] = came_to | {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}",
    }
    file.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    page.write_text(written(data), encoding="utf-8")


def written(data: dict[str, Any]) -> str:
    """The page for what all parts came to."""
    parts = [_part(text, data[part]) for part, text in _PARTS.items() if part in data]
    return _PAGE.format(parts="".join(parts).rstrip())


def _part(text: str, came_to: dict[str, Any]) -> str:
    filled = text.format(
        **{name: came_to.get(name, 0) for name in ("minutes", "seed")},
        figures=_table(("", ""), came_to.get("figures", {}).items()),
        faults=_table(("what was broken", "how often"), _in_places(came_to.get("faults", {}))),
        rows=_table(*_columns(came_to.get("rows", []))),
    )
    return f"{filled}\nOn {came_to['date']}, {came_to['machine']}.\n"


def _in_places(faults: dict[str, int]) -> Iterable[tuple[str, int]]:
    for place, kinds in groupby(faults.items(), key=lambda kind: kind[0].partition(":")[0]):
        for name, times in kinds:
            yield f"**{place}**: {name.partition(': ')[2]}", times


def _columns(rows: list[dict[str, Any]]) -> tuple[tuple[str, ...], list[list[Any]]]:
    names = [name for name in (rows[0] if rows else {}) if name != "versions"]
    values = [[f"{row['name']} ({row['versions']})", *(row[name] for name in names[1:])] for row in rows]
    return tuple(name.replace("_", " ").replace("name", "") for name in names), values


def _table(head: tuple[str, ...], rows: Iterable[Iterable[Any]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    lines += [f"| {' | '.join(map(_shown, row))} |" for row in rows]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if value is None:
        return "no marks"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
