"""``make chaos``: a long run of faults by chance, and what it came to.

    python tests/chaos/chaos_main.py [--seed SEED] [--fsync always|everysec] [--page FILE] MINUTES

Prints the report as JSON, and exits with 1 when something was lost, doubled without a mark, or out of order. A good run
may write the page that ``docs/reliability.md`` is.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

from chaos_faults import FAULTS
from chaos_page import page
from chaos_run import Report, Run

CALM_SECONDS = 0.6


def run_chaos(folder: Path, *, seed: int, minutes: float, fsync: str) -> Report:
    """Every fault once in an order of chance, and again until the time is over; then heal, drain and compare."""
    with Run(folder, seed, fsync=fsync) as run:
        give_up = time.monotonic() + 60 * minutes
        run.calm(3)
        while True:
            for name in run.chances.sample(sorted(FAULTS), len(FAULTS)):
                run.when.append((time.monotonic(), name))
                FAULTS[name](run)
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
    parser.add_argument("--seed", default="", help="of an earlier run, to do it again")
    parser.add_argument("--fsync", choices=["always", "everysec"], default="always", help="Redis's appendfsync")
    parser.add_argument("--page", type=Path, help="where to write what a good run came to")
    given = parser.parse_args()
    seed = int(given.seed) if given.seed else secrets.randbelow(10**9)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    report = run_chaos(folder, seed=seed, minutes=given.minutes, fsync=given.fsync)
    print(report.as_json())  # noqa: T201 - this is its purpose
    if report.wrong:
        print(f"what its processes have written: {folder}", file=sys.stderr)  # noqa: T201 - likewise
        sys.exit(1)
    shutil.rmtree(folder)
    if given.page:
        given.page.write_text(page(report, minutes=given.minutes, fsync=given.fsync), encoding="utf-8")


if __name__ == "__main__":
    main()
