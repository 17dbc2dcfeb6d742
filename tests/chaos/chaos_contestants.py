"""Who takes part in the comparison of ``chaos_peers.py``, and how its workers are started.

The apps are in ``benchmarks/peers/``; why each is set up as it is stands at its head.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent.parent / "benchmarks" / "peers"))
from contestants import CELERY, DRAMATIQ, RELAY, TASKIQ, Contestant

__all__ = ["CONTESTANTS", "Contestant"]

CONTESTANTS = {
    RELAY: "insend worker",
    CELERY: "celery -A plain_celery worker --concurrency 2 --without-gossip --without-mingle --without-heartbeat",
    DRAMATIQ: "dramatiq plain_dramatiq --processes 2 --threads 8",
    TASKIQ: "taskiq worker plain_taskiq:broker --workers 2 --log-level WARNING",
}
