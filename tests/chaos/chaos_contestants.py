"""Who takes part in the comparison of ``chaos_peers.py``, how its workers are started, and what its queue holds.

The apps are in ``benchmarks/peers/``; why each is set up as it is stands at its head.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from insend_relay.outbox.store import Outbox

APPS = Path(__file__).resolve().parent.parent.parent / "benchmarks" / "peers"


@dataclass(frozen=True)
class Contestant:
    """One that takes part.

    Attributes:
        name: For the table.
        packages: Whose versions are told.
        app: A module of ``benchmarks/peers``, whose environment has the same name; ``relay`` runs in ours.
        worker: The command line of its group of workers.
        pending: How much its queue still holds.
    """

    name: str
    packages: tuple[str, ...]
    app: str
    worker: str
    pending: Callable[[Any], int]

    @property
    def ours(self) -> bool:
        """Whether it is Insend Relay."""
        return self.app == "relay"

    def bin(self) -> Path:
        """Where its programs are; a peer's environment is made when it is missing."""
        if self.ours:
            return Path(sys.executable).parent
        command = [sys.executable, str(APPS / "venvs.py"), self.app]
        return Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()) / "bin"

    def versions(self) -> str:
        """Names and versions of what runs."""
        if self.ours:
            return ", ".join(f"{package} {version(package)}" for package in self.packages)
        pins = (APPS / f"{self.app}.txt").read_text(encoding="utf-8").splitlines()
        return ", ".join(pin.replace("==", " ") for pin in pins if pin.partition("==")[0] in self.packages)


def _waiting(client: Any) -> int:
    outbox = Outbox(client)
    return int(outbox.read("HGET", outbox.keys.ledger, "waiting") or 0)


CONTESTANTS = (
    Contestant(
        "Insend Relay",
        ("insend-relay",),
        "relay",
        "insend worker",
        _waiting,
    ),
    Contestant(
        "plain Celery task",
        ("celery", "kombu"),
        "plain_celery",
        "celery -A plain_celery worker --concurrency 2 --without-gossip --without-mingle --without-heartbeat",
        lambda client: client.llen("celery") + client.hlen("unacked"),
    ),
    Contestant(
        "Dramatiq",
        ("dramatiq",),
        "plain_dramatiq",
        "dramatiq plain_dramatiq --processes 2 --threads 8",
        lambda client: client.hlen("dramatiq:default.msgs") + client.hlen("dramatiq:default.DQ.msgs"),
    ),
    Contestant(
        "taskiq",
        ("taskiq", "taskiq-redis"),
        "plain_taskiq",
        "taskiq worker plain_taskiq:broker --workers 2 --log-level WARNING",
        lambda client: int(client.xpending("taskiq", "taskiq")["pending"]),
    ),
)
