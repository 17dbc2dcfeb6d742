"""Whether the defaults have to be tuned: our worker as it comes, against the best INSEND_CONCURRENCY that can be found.

First every value has one run at each delay. The best two have as many rounds as the default then, in turns: the best of
many single runs is partly luck, which is not to count.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from bench_data import Key, Runs
from entrants import DELAYS_MS, RELAY_ENTRANT
from throughput import undisturbed

from insend_relay.outbox.settings import Settings

VALUES = (8, 16, 32, 64, 128, 256, 512, 1024, 4096)
FINALISTS = 2
DEFAULT = "default"
FIGURES = ("per_second", "cpu_ms", "pss_megabytes", "others_share")
SECONDS = 3.0  # a run's backlog; shorter than elsewhere, for there are many


def plan(rounds: int, runs: Runs) -> Iterator[Key]:
    """All values once, then the best two and the default in turns."""
    for delay_ms in DELAYS_MS:
        for value in VALUES:
            yield {"stage": "search", "delay_ms": delay_ms, "concurrency": value, "round": 0}
    for number in range(rounds):
        for delay_ms in DELAYS_MS:
            order: list[int | str] = [DEFAULT, *_best(runs, delay_ms)]
            for choice in order if number % 2 == 0 else reversed(order):
                yield {"stage": "final", "delay_ms": delay_ms, "concurrency": choice, "round": number}


def _best(runs: Runs, delay_ms: int) -> list[int]:
    """The best values of the search but the one that is the default anyway."""
    searched = [run for run in runs if run["stage"] == "search" and run["delay_ms"] == delay_ms]
    others = [run for run in searched if run["concurrency"] != Settings().concurrency]
    ranked = sorted(others, key=lambda run: float(run["per_second"]), reverse=True)
    return [run["concurrency"] for run in ranked[:FINALISTS]]


def measure(key: Key) -> dict[str, Any]:
    """One run of the plan."""
    choice, delay_ms = key["concurrency"], key["delay_ms"]
    value = Settings().concurrency if choice == DEFAULT else choice
    environ = {} if choice == DEFAULT else {"INSEND_CONCURRENCY": str(value)}
    entrant = dataclasses.replace(RELAY_ENTRANT, environ=RELAY_ENTRANT.environ | environ)
    most = RELAY_ENTRANT.setups[delay_ms].per_second
    if delay_ms:  # two processes cannot exceed
        most = min(most, 2 * value * 1000 // delay_ms)
    setups = {delay_ms: entrant.setups[delay_ms]._replace(per_second=most)}
    entrant = dataclasses.replace(entrant, setups=setups)
    seconds = SECONDS if key["stage"] == "search" else SECONDS * 1.5
    run = undisturbed(entrant, delay_ms=delay_ms, seconds=seconds).as_dict()
    return {"value": value} | {figure: run[figure] for figure in FIGURES}
