"""A name with several addresses: of Redis's, a worker and its Celery use the one that is a primary and answers.

Of the tracker's they use one that takes connections, in each kind of pool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from delivering import APP, Append, WorkerProcess, drained, payload
from two_addresses import HOST, frozen, swallowing
from waiting import wait_until

from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.console.sandbox.sandbox import Sandbox
from insend_relay.outbox.connection import connect
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.record import new_id
from insend_relay.outbox.store import Outbox

TRACKER = "tracker.test"
RESOLVER = """
import {module}
really = {module}.getaddrinfo
def getaddrinfo(host, port, *args, **more):
    if host != {host!r}:
        return really(host, port, *args, **more)
    stream = {module}.AF_INET, {module}.SOCK_STREAM, {module}.IPPROTO_TCP
    return [(*stream, "", ("127.0.0.1", each)) for each in {ports}]
{module}.getaddrinfo = getaddrinfo
"""


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A replica that its primary has left."""
    with EmbeddedRedis(tmp_path / "replica", server="redis", config={"appendonly": "no"}) as server:
        with redis.Redis.from_url(server.url) as admin:
            admin.replicaof("127.0.0.1", 1)
        yield server


@pytest.fixture
def resolve_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let a host have these ports of 127.0.0.1 as its addresses in child processes, for this module's look-up."""

    def resolve_to(host: str, *ports: int, module: str = "socket") -> None:
        (tmp_path / "sitecustomize.py").write_text(RESOLVER.format(host=host, ports=ports, module=module))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return resolve_to


@pytest.mark.parametrize("first", ["swallowing", "frozen", "replica"])
def test_events_are_delivered_by_way_of_the_broker(
    first: str,
    tmp_path: Path,
    replica: EmbeddedRedis,
    resolve_to: Callable[..., None],
    start_worker: Callable[..., WorkerProcess],
    sandbox: Sandbox,
) -> None:
    with (
        EmbeddedRedis(tmp_path / "primary", server="redis") as server,
        swallowing() as swallowing_port,
        frozen() as node,
        connect(server.url) as client,
    ):
        ports = {"swallowing": swallowing_port, "frozen": node.port, "replica": replica.port}
        resolve_to(HOST, ports[first], server.port)
        worker = start_worker(redis_url=f"redis://{HOST}:6379/0", namespace="insend")
        worker.wait_ready()  # Celery is connected to its broker
        outbox = Outbox(client)
        for visitor in range(20):
            outbox.append(Lane(APP, "v", str(visitor)), new_id(), payload(str(visitor), 1))
        drained(outbox)
        assert len(sandbox.received) == 20
        wait_until(lambda: client.info("clients")["blocked_clients"] >= 1)  # Celery waits for its messages here
        log = worker.log.read_text()
    assert "the broker takes no message" not in log
    assert "Cannot connect" not in log


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_events_are_delivered_to_a_tracker_whose_first_address_swallows_connections(
    pool: str,
    append: Append,
    resolve_to: Callable[..., None],
    start_worker: Callable[..., WorkerProcess],
    outbox: Outbox,
    sandbox: Sandbox,
) -> None:
    with swallowing() as swallowing_port:
        resolve_to(TRACKER, swallowing_port, urlsplit(sandbox.url).port, module="gevent.socket")
        for visitor in range(20):
            append(str(visitor))
        worker = start_worker(pool=pool, tracker_url=f"http://{TRACKER}/watch/event")
        books = drained(outbox)
    assert (books["delivered"], books.get("duplicates_possible", 0)) == (20, 0)
    assert "takes nothing" not in worker.log.read_text()
