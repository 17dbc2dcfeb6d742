"""Which set-up of each peer is its best: what its documentation offers for work that waits for a server, all in turns.

``entrants.py`` has those that won. Not part of a usual ``make bench``: ``make bench PART=setups`` runs it anew.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from bench_data import Key, Runs
from entrants import (
    CELERY_ENTRANT,
    CELERY_NODES,
    CELERY_WORKER,
    DELAYS_MS,
    DRAMATIQ_ENTRANT,
    DRAMATIQ_GEVENT,
    DRAMATIQ_WORKER,
    QUEUES,
    TASKIQ_ENTRANT,
    TASKIQ_WORKER,
    Setup,
)
from throughput import undisturbed
from tuned import FIGURES

SECONDS = 3.0  # a run's backlog; there are many
_PREFORK = f"{CELERY_WORKER} --prefetch-multiplier"
_NODES = f"{CELERY_NODES} --prefetch-multiplier"

# By delay: the command lines, each with the number of POSTs that it may have under way
CANDIDATES: dict[str, dict[int, dict[str, int]]] = {
    CELERY_ENTRANT.name: {
        0: {
            f"{_PREFORK} 4 -c 2": 2,
            f"{_PREFORK} 64 -c 2": 2,
            f"{_PREFORK} 128 -c 2": 2,
            f"{_PREFORK} 64 -c 2 -O fair": 2,
            f"{_PREFORK} 64 -c 4": 4,
            f"{_PREFORK} 64 -c 8": 8,
            f"{_NODES} 64 -P threads -c 2": 4,
            f"{_NODES} 64 -P threads -c 8": 16,
            f"{_NODES} 64 -P gevent -c 8": 16,
            f"{_NODES} 4 -P gevent -c 64": 128,
        },
        5: {
            f"{_PREFORK} 64 -c 4": 4,
            f"{_PREFORK} 64 -c 8": 8,
            f"{_PREFORK} 64 -c 16": 16,
            f"{_NODES} 64 -P threads -c 8": 16,
            f"{_NODES} 64 -P gevent -c 16": 32,
        },
        50: {
            f"{_PREFORK} 64 -c 16": 16,
            f"{_PREFORK} 4 -c 32": 32,
            f"{_PREFORK} 64 -c 32": 32,
            f"{_PREFORK} 64 -c 64": 64,
            f"{_NODES} 64 -P threads -c 32": 64,
            f"{_NODES} 4 -P gevent -c 64": 128,
            f"{_NODES} 4 -P gevent -c 200": 400,
        },
        200: {
            f"{_PREFORK} 64 -c 64": 64,
            f"{_PREFORK} 4 -c 128": 128,
            f"{_NODES} 64 -P threads -c 64": 128,
            f"{_NODES} 4 -P gevent -c 128": 256,
            f"{_NODES} 4 -P gevent -c 256": 512,
        },
    },
    DRAMATIQ_ENTRANT.name: {
        0: {
            f"{DRAMATIQ_WORKER} 2": 4,
            f"{DRAMATIQ_WORKER} 8": 16,
            f"{DRAMATIQ_GEVENT} 2": 4,
            f"{DRAMATIQ_GEVENT} 8": 16,
            f"{DRAMATIQ_GEVENT} 32": 64,
        },
        5: {f"{DRAMATIQ_WORKER} 16": 32, f"{DRAMATIQ_GEVENT} 16": 32, f"{DRAMATIQ_GEVENT} 64": 128},
        50: {f"{DRAMATIQ_WORKER} 64": 128, f"{DRAMATIQ_GEVENT} 64": 128, f"{DRAMATIQ_GEVENT} 128": 256},
        200: {f"{DRAMATIQ_WORKER} 128": 256, f"{DRAMATIQ_GEVENT} 128": 256, f"{DRAMATIQ_GEVENT} 256": 512},
    },
    TASKIQ_ENTRANT.name: {
        0: {
            f"{TASKIQ_WORKER} 20": 40,
            f"{TASKIQ_WORKER} 100": 200,
            f"{TASKIQ_WORKER} 100 --max-prefetch 100": 200,
            f"{TASKIQ_WORKER} 500": 1000,
        },
        5: {f"{TASKIQ_WORKER} 20": 40, f"{TASKIQ_WORKER} 100": 200, f"{TASKIQ_WORKER} 500": 1000},
        50: {
            f"{TASKIQ_WORKER} 100": 200,
            f"{TASKIQ_WORKER} 200": 400,
            f"{TASKIQ_WORKER} 500": 1000,
            f"{TASKIQ_WORKER} 500 --max-prefetch 100": 1000,
        },
        200: {f"{TASKIQ_WORKER} 300": 600, f"{TASKIQ_WORKER} 500": 1000, f"{TASKIQ_WORKER} 1000": 2000},
    },
}


def plan(rounds: int, _: Runs) -> Iterator[Key]:
    """All in turns."""
    for number in range(rounds):
        for delay_ms in DELAYS_MS:
            for entrant in QUEUES:
                for command in CANDIDATES[entrant.name][delay_ms]:
                    yield {"entrant": entrant.name, "delay_ms": delay_ms, "command": command, "round": number}


def measure(key: Key) -> dict[str, Any]:
    """One run of the plan."""
    entrant = next(entrant for entrant in QUEUES if entrant.name == key["entrant"])
    delay_ms, command = key["delay_ms"], key["command"]
    most = entrant.setups[delay_ms].per_second
    if delay_ms:
        most = min(most, CANDIDATES[entrant.name][delay_ms][command] * 1000 // delay_ms)
    entrant = dataclasses.replace(entrant, setups={delay_ms: Setup(command, most)})
    run = undisturbed(entrant, delay_ms=delay_ms, seconds=SECONDS).as_dict()
    return {figure: run[figure] for figure in FIGURES}
