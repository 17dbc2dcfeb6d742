"""Which workers are alive: each sends a heartbeat every few seconds, and learns from it whether the books jumped back.

The sorted set ``workers`` holds the name of each worker and the time of its last heartbeat, on Redis's clock. The name
is ``HOST:PID#RANDOM#VERSION``: VERSION is the highest version of records that the worker reads, 1 where there is none.
A worker that stops takes its name away. One that is killed or hangs leaves it there for an hour, so that an operator
sees which one it was.
"""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass
from itertools import islice

from insend_relay.outbox import record
from insend_relay.outbox.keys import Keys
from insend_relay.outbox.replies import pairs, scan
from insend_relay.outbox.scripts import Scripts
from insend_relay.outbox.store import Outbox

HEARTBEAT_SECONDS = 2.0
ALIVE_SECONDS = 45.0  # a broker that does not answer holds a pump up for some 20 s
_KEPT_MS = 3_600_000
_LATEST = 100  # of the heartbeats so many are read
_SCANS = 20  # of 500 keys each


class Heartbeat:
    """The heartbeat of one worker.

    Args:
        outbox: Where it is written.
        worker: The worker's name, ``HOST:PID``; containers may share it, so a random part is added.
    """

    def __init__(self, outbox: Outbox, worker: str) -> None:
        self._outbox = outbox
        self._scripts = Scripts(outbox.redis, outbox.keys)
        self._name = f"{worker}#{uuid.uuid4().hex[:8]}#{record.VERSION}"
        self._known: tuple[str, int, int] = ("", 0, 0)
        self._lock = threading.Lock()  # the worker leaves in another thread than the one that sends heartbeats
        self._left = False

    def beat(self) -> bool:
        """Say that this worker is alive, unless it has left.

        Returns:
            Whether the books have jumped back since the last heartbeat: Redis holds fewer accepted events than then, or
            none of the keys. This worker is the one that has reported it; ``jumps.read_jumps`` has the numbers.

        Raises:
            OutboxError: Redis could not be asked. The next heartbeat compares with the last one that could.
        """
        with self._lock:
            return not self._left and self._beat()

    def _beat(self) -> bool:
        epoch, accepted, waiting = self._known
        found, accepted, waiting, jumped = self._scripts.run(
            "heartbeat",
            worker=self._name,
            kept_ms=_KEPT_MS,
            known_epoch=epoch,
            known_accepted=accepted,
            known_waiting=waiting,
            new_epoch=uuid.uuid4().hex,
        )
        self._known = found.decode(), accepted, waiting
        return bool(jumped)

    def leave(self) -> None:
        """This worker stops: its name is removed, and no heartbeat follows. Raises OutboxError."""
        with self._lock:
            self._left = True
            self._outbox.read("ZREM", self._outbox.keys.workers, self._name)


@dataclass(frozen=True, slots=True)
class Workers:
    """The workers of one namespace.

    Attributes:
        alive: How many have sent a heartbeat in the last 45 s.
        last: ``HOST:PID`` of the latest heartbeat; None when there was none in the last hour, or all have stopped.
        last_seconds: How long ago that was.
        reads: The highest version of records that one of those that are alive reads; 0 when none is alive.
    """

    alive: int
    last: str | None = None
    last_seconds: float | None = None
    reads: int = 0


NO_WORKERS = Workers(0)


def read_workers(outbox: Outbox, now_ms: int) -> Workers:
    """The workers at ``now_ms`` on Redis's clock; the latest 100 are counted."""
    latest = pairs(outbox.read("ZRANGE", outbox.keys.workers, -_LATEST, -1, "WITHSCORES"))
    ages = sorted((abs(now_ms - float(at)) / 1000, name) for name, at in latest)
    if not ages:
        return NO_WORKERS
    seconds, name = ages[0]
    alive = [_reads(each) for age, each in ages if age <= ALIVE_SECONDS]
    return Workers(len(alive), name.decode(errors="replace").partition("#")[0], seconds, max(alive, default=0))


def _reads(name: bytes) -> int:
    """The version of records in a worker's name."""
    version = name.split(b"#")[2:]
    return int(version[0]) if version and version[0].isdigit() else 1


def other_namespaces(outbox: Outbox, now_ms: int) -> list[str]:
    """Other namespaces of this Redis in which a worker is alive, as far as they are among its first 10,000 keys."""
    anywhere, ours = Keys("*").workers, outbox.keys.workers.encode()
    before, _, after = (part.encode() for part in anywhere.partition("*"))
    found = []
    for batch in islice(scan(outbox.redis, "SCAN", match=anywhere, count=500), _SCANS):
        for key in set(batch) - {ours}:
            namespace = key.removeprefix(before).removesuffix(after).decode(errors="replace")
            if read_workers(Outbox(outbox.redis, namespace=namespace), now_ms).alive:
                found.append(namespace)
    return sorted(found)
