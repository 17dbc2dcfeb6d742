"""A worker whose Redis has a name with several addresses uses the one that is a primary and answers, Celery too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from delivering import APP, WorkerProcess, drained, payload
from two_addresses import HOST, frozen, swallowing
from waiting import wait_until

from insend_relay.console.embedded import EmbeddedRedis
from insend_relay.console.sandbox import Sandbox
from insend_relay.outbox.connection import connect
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.record import new_id
from insend_relay.outbox.store import Outbox

RESOLVER = """
import socket
really = socket.getaddrinfo
def getaddrinfo(host, port, *args, **more):
    if host != {host!r}:
        return really(host, port, *args, **more)
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", each)) for each in {ports}]
socket.getaddrinfo = getaddrinfo
"""


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A replica that its primary has left."""
    with EmbeddedRedis(tmp_path / "replica", server="redis", config={"appendonly": "no"}) as server:
        with redis.Redis.from_url(server.url) as admin:
            admin.replicaof("127.0.0.1", 1)
        yield server


@pytest.fixture
def resolve_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Let ``HOST`` have these ports of 127.0.0.1 as its addresses in child processes; returns its URL."""

    def resolve_to(*ports: int) -> str:
        (tmp_path / "sitecustomize.py").write_text(RESOLVER.format(host=HOST, ports=ports))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        return f"redis://{HOST}:6379/0"

    return resolve_to


@pytest.mark.parametrize("first", ["swallowing", "frozen", "replica"])
def test_events_are_delivered_by_way_of_the_broker(
    first: str,
    tmp_path: Path,
    replica: EmbeddedRedis,
    resolve_to: Callable[..., str],
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
        worker = start_worker(redis_url=resolve_to(ports[first], server.port), namespace="insend")
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
