"""``make chaos``: a long run of faults by chance, and what it came to.

    python tests/chaos/chaos_main.py MINUTES [--part PART] [--seed SEED] [--page FILE]

The parts: ``always`` (every fault, Redis syncs every write), ``everysec`` (likewise, Redis syncs once a second),
``failover`` (Redis and a replica under a Sentinel) and ``peers`` (the same kills for us and for other task queues,
which takes the time that it takes). Prints what the part came to as JSON, and exits with 1 when something was lost,
doubled without a mark, or out of order that should not have been. A good part joins the page that
``docs/reliability.md`` is.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from chaos_failover import FAILOVERS, FailoverRun
from chaos_faults import FAULTS, Fault
from chaos_page import join_page
from chaos_peers import compare
from chaos_run import Report, Run

CALM_SECONDS = 0.6


def run_chaos(run: Run, faults: Mapping[str, Fault] = FAULTS, *, minutes: float = 0) -> Report:
    """Every fault once in an order of chance, and again until the time is over; then heal, drain and compare."""
    with run:
        give_up = time.monotonic() + 60 * minutes
        run.calm(3)
        while True:
            run.compact()
            for name in run.chances.sample(sorted(faults), len(faults)):
                run.when.append((time.monotonic(), name))
                faults[name](run)
                run.done[name] += 1
                run.calm(CALM_SECONDS)
            if time.monotonic() >= give_up:
                break
        run.calm(2)
        run.drain()
        return run.report()


def main() -> None:
    """By the command line's arguments."""
    parser = argparse.ArgumentParser(description="Break everything by chance, and see whether the books balance.")
    parser.add_argument("minutes", type=float, help="at least so long; every fault is done once in any case")
    parser.add_argument("--part", choices=["always", "everysec", "failover", "peers"], default="always")
    parser.add_argument("--seed", default="", help="of an earlier run, to do it again")
    parser.add_argument("--page", type=Path, help="where to write what a good run came to")
    given = parser.parse_args()
    seed = int(given.seed) if given.seed else secrets.randbelow(10**9)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    if given.part == "peers":
        came_to: dict[str, object] = {"seed": seed, "rows": [asdict(row) for row in compare(folder, seed=seed)]}
    else:
        run = FailoverRun(folder, seed) if given.part == "failover" else Run(folder, seed, fsync=given.part)
        faults = FAILOVERS if given.part == "failover" else FAULTS
        came_to = asdict(run_chaos(run, faults, minutes=given.minutes)) | {"minutes": given.minutes}
    print(json.dumps(came_to, indent=2))  # noqa: T201 - this is its purpose
    if came_to.get("wrong"):
        print(f"what its processes have written: {folder}", file=sys.stderr)  # noqa: T201 - likewise
        sys.exit(1)
    shutil.rmtree(folder)
    if given.page:
        join_page(given.page, given.part, came_to)


if __name__ == "__main__":
    main()
