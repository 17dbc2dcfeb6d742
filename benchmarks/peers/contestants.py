"""Who takes part in a comparison: where its programs are, which versions run, and what its queue holds.

How its workers are started is each comparison's business; why its app is set up as it is stands at the app's head.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from venvs import HERE, make

from insend_relay.operations.books import events_waiting
from insend_relay.outbox.store import Outbox


@dataclass(frozen=True)
class Contestant:
    """One that takes part.

    Attributes:
        name: For the tables.
        packages: Whose versions are told.
        app: A module of this folder, whose environment has the same name; ``relay`` runs in ours.
        pending: How much its queue still holds, by a Redis client.
    """

    name: str
    packages: tuple[str, ...]
    app: str
    pending: Callable[[Any], int]

    @property
    def ours(self) -> bool:
        """Whether it runs in our own environment."""
        return not (HERE / f"{self.app}.txt").exists()

    def bin(self) -> Path:
        """Where its programs are; a peer's environment is made when it is missing."""
        return Path(sys.executable).parent if self.ours else make(self.app) / "bin"

    def versions(self) -> str:
        """Names and versions of what runs."""
        if self.ours:
            return ", ".join(f"{package} {version(package)}" for package in self.packages)
        pins = (HERE / f"{self.app}.txt").read_text(encoding="utf-8").splitlines()
        return ", ".join(pin.replace("==", " ") for pin in pins if pin.partition("==")[0] in self.packages)

    def environ(self, redis_url: str, tracker_url: str, **more: str) -> dict[str, str]:
        """The environment of its processes."""
        theirs = {"REDIS_URL": redis_url, "TRACKER_URL": tracker_url, "PYTHONPATH": str(HERE), "NO_PROXY": "127.0.0.1"}
        ours = {"INSEND_REDIS_URL": redis_url, "INSEND_TRACKER_URL": tracker_url} if self.ours else {}
        return {**os.environ, **theirs, **ours, **more}

    def command(self, line: str, *arguments: object) -> list[str]:
        """A command line of one of its programs."""
        program, *rest = line.split()
        return [str(self.bin() / program), *rest, *map(str, arguments)]

    def producer(self, *arguments: object) -> list[str]:
        """The command line of its producer; see ``peer_event``."""
        return self.command("python", HERE / f"{self.app}.py", *arguments)

    def run(self, environ: dict[str, str], *arguments: object) -> str:
        """Run its producer to the end, and return what it printed."""
        done = subprocess.run(
            self.producer(*arguments), env=environ, cwd=HERE, stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout


def _waiting(client: Any) -> int:
    return events_waiting(Outbox(client))


RELAY = Contestant("Insend Relay", ("insend-relay",), "relay", _waiting)
CELERY = Contestant(
    "plain Celery task",
    ("celery", "kombu"),
    "plain_celery",
    lambda client: client.llen("celery") + client.hlen("unacked"),
)
DRAMATIQ = Contestant(
    "Dramatiq",
    ("dramatiq",),
    "plain_dramatiq",
    lambda client: client.hlen("dramatiq:default.msgs") + client.hlen("dramatiq:default.DQ.msgs"),
)
TASKIQ = Contestant(
    "taskiq",
    ("taskiq", "taskiq-redis"),
    "plain_taskiq",
    lambda client: int(client.xpending("taskiq", "taskiq")["pending"]),
)
BARE = Contestant("bare RPUSH", ("redis",), "bare_redis", lambda client: client.llen("bare"))
LOOP = Contestant("no queue", ("requests", "gevent"), "bare_loop", lambda _: 0)
