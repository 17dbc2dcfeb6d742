"""Who is measured, and how each one's workers are started.

Why a peer's app is set up as it is stands at the app's head (``peers/``). A command line is each one's fastest on two
cores, with the tracker answering so late, of those that its documentation offers; ``setups.py`` has looked for it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).resolve().parent / "peers"))
from contestants import BARE, CELERY, DRAMATIQ, LOOP, RELAY, TASKIQ, Contestant

DELAYS_MS = (0, 5, 50, 200)  # after which the tracker answers


class Setup(NamedTuple):
    """How workers are started.

    Attributes:
        command: The command line of their group.
        per_second: About how many events a second they deliver; a run gets so many that it lasts long enough.
    """

    command: str
    per_second: int


@dataclass(frozen=True)
class Entrant:
    """A way of delivering that is measured.

    Attributes:
        name: For the tables.
        who: Whose app it is.
        setups: By the tracker's delay, ms; it is measured at these.
        environ: What its environment has besides.
        fsync: Redis's appendfsync.
        queued: Whether there is a queue to be filled first.
    """

    name: str
    who: Contestant
    setups: dict[int, Setup]
    environ: dict[str, str] = field(default_factory=dict)
    fsync: str = "everysec"
    queued: bool = True

    def command(self, delay_ms: int) -> list[str]:
        """Its command line at this delay."""
        return self.who.command(self.setups[delay_ms].command)

    def environment(self, redis_url: str, tracker_url: str) -> dict[str, str]:
        """The environment of its processes."""
        return self.who.environ(redis_url, tracker_url, **self.environ)


CELERY_WORKER = "celery -A plain_celery worker --without-gossip --without-mingle --without-heartbeat"
CELERY_NODES = f"python together.py 2 {CELERY_WORKER} -n node{{}}@%h"
DRAMATIQ_WORKER = "dramatiq plain_dramatiq --processes 2 --threads"
DRAMATIQ_GEVENT = "dramatiq-gevent plain_dramatiq --processes 2 --threads"
TASKIQ_WORKER = "taskiq worker plain_taskiq:broker --workers 2 --no-parse --log-level WARNING --max-async-tasks"
_OURS = {"INSEND_APP_KEY": "bench", "INSEND_DOMAIN": "shop.example.com"}
_WORKER = {
    0: Setup("insend worker", 14_000),
    5: Setup("insend worker", 14_000),
    50: Setup("insend worker", 13_000),
    200: Setup("insend worker", 12_000),
}
_PREFORK = f"{CELERY_WORKER} --prefetch-multiplier 64 -c"
_THREADS = f"{CELERY_NODES} --prefetch-multiplier 64 -P threads -c"
_REQUESTS = "python bare_loop.py requests 2"
_LEAN = "python bare_loop.py lean 2"

RELAY_ENTRANT = Entrant("Insend Relay", RELAY, _WORKER, _OURS)
RELAY_ALWAYS = Entrant(
    "Insend Relay, appendfsync always", RELAY, {delay_ms: _WORKER[delay_ms] for delay_ms in (0, 50)}, _OURS, "always"
)
CELERY_ENTRANT = Entrant(
    "plain Celery",
    CELERY,
    {
        0: Setup(f"{_PREFORK} 2", 800),
        5: Setup(f"{_PREFORK} 8", 600),
        50: Setup(f"{_PREFORK} 16", 300),
        200: Setup(f"{_PREFORK} 64", 250),
    },
)
CELERY_THREADS = Entrant(
    "Celery, 2 workers, -P threads",
    CELERY,
    {
        0: Setup(f"{_THREADS} 8", 950),
        5: Setup(f"{_THREADS} 8", 900),
        50: Setup(f"{_THREADS} 32", 800),
        200: Setup(f"{_THREADS} 64", 500),
    },
)
DRAMATIQ_ENTRANT = Entrant(
    "Dramatiq",
    DRAMATIQ,
    {
        0: Setup(f"{DRAMATIQ_GEVENT} 32", 2_000),
        5: Setup(f"{DRAMATIQ_GEVENT} 64", 2_000),
        50: Setup(f"{DRAMATIQ_GEVENT} 64", 1_600),
        200: Setup(f"{DRAMATIQ_GEVENT} 128", 1_100),
    },
)
TASKIQ_ENTRANT = Entrant(
    "taskiq",
    TASKIQ,
    {
        0: Setup(f"{TASKIQ_WORKER} 100", 3_000),
        5: Setup(f"{TASKIQ_WORKER} 100", 3_000),
        50: Setup(f"{TASKIQ_WORKER} 200", 3_000),
        200: Setup(f"{TASKIQ_WORKER} 500", 2_500),
    },
)
QUEUES = (CELERY_ENTRANT, DRAMATIQ_ENTRANT, TASKIQ_ENTRANT)  # one of each library
PEERS = (CELERY_ENTRANT, CELERY_THREADS, DRAMATIQ_ENTRANT, TASKIQ_ENTRANT)
REQUESTS_LOOP = Entrant(
    "requests.post in 2 loops, no queue",
    LOOP,
    {0: Setup(_REQUESTS, 2_000), 5: Setup(_REQUESTS, 300), 50: Setup(_REQUESTS, 38), 200: Setup(_REQUESTS, 10)},
    queued=False,
)
LEAN_LOOP = Entrant(
    "our client in 2 loops, no queue",
    LOOP,
    {0: Setup(f"{_LEAN} 1", 25_000)},
    queued=False,
)
CEILING = Entrant(
    "our client in 2 x many greenlets, no queue",
    LOOP,
    {
        0: Setup(f"{_LEAN} 16", 38_000),
        5: Setup(f"{_LEAN} 128", 15_000),
        50: Setup(f"{_LEAN} 1024", 30_000),
        200: Setup(f"{_LEAN} 4096", 30_000),
    },
    queued=False,
)
ENTRANTS = (RELAY_ENTRANT, RELAY_ALWAYS, *PEERS, REQUESTS_LOOP, LEAN_LOOP, CEILING)
BARE_ENTRANT = Entrant("bare RPUSH", BARE, {})


def by_name(name: str) -> Entrant:
    """The entrant of this name; SystemExit lists all when there is none."""
    all_of_them = {entrant.name: entrant for entrant in (*ENTRANTS, BARE_ENTRANT)}
    if name not in all_of_them:
        raise SystemExit(f"no such entrant; there are: {', '.join(all_of_them)}")
    return all_of_them[name]
