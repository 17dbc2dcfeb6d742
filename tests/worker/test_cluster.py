"""A Redis in cluster mode, which is not supported, is named as such wherever a person or a program meets it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from command_line import CommandLine
from delivering import APP, WorkerProcess
from waiting import PATIENCE_SECONDS, wait_until

from insend_relay.console.sandbox.embedded import EmbeddedRedis, Server
from insend_relay.outbox.settings import Settings
from insend_relay.producers import AsyncInSend, InSend, NotAccepted

ACCOUNT: dict[str, Any] = {"app_key": APP, "domain": "shop.example.com", "enqueue_timeout_ms": 10_000}
SENTENCE = "this Redis runs in cluster mode, which Insend Relay does not support: point {} at a Redis without it"
WORDS = SENTENCE.format("INSEND_REDIS_URL")
CONFIG = {"cluster-enabled": "yes", "appendonly": "no"}


def serve_all_slots(server: EmbeddedRedis) -> None:
    """Make a node a whole cluster of its own: it takes every command, but SELECT and some of Celery's."""
    with redis.Redis.from_url(server.url) as admin:
        admin.execute_command("CLUSTER", "ADDSLOTS", *range(16_384))
        wait_until(lambda: "cluster_state:ok" in str(admin.execute_command("CLUSTER", "INFO")))


@pytest.fixture(params=[("redis", True), ("redis", False), ("valkey", True)], ids=str)
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A node that serves all slots, or none."""
    kind: Server
    kind, whole = request.param
    with EmbeddedRedis(tmp_path / "cluster", server=kind, config=CONFIG) as server:
        if whole:
            serve_all_slots(server)
        yield server


def test_a_worker_does_not_start(cluster: EmbeddedRedis) -> None:
    result = CommandLine(cluster.url, "insend").process("worker")
    assert (result.returncode, result.stderr) == (3, f"insend: {WORDS}\n")


def test_a_worker_does_not_start_with_such_a_broker(cluster: EmbeddedRedis, redis_url: str, namespace: str) -> None:
    result = CommandLine(redis_url, namespace).process("worker", INSEND_BROKER_URL=cluster.url)
    assert (result.returncode, result.stderr) == (3, f"insend: {SENTENCE.format('INSEND_BROKER_URL')}\n")


def test_a_worker_that_was_there_before_the_cluster_leaves(
    tmp_path: Path, start_worker: Callable[..., WorkerProcess]
) -> None:
    server = EmbeddedRedis(tmp_path / "late", server="redis", config=CONFIG)
    with server:
        url = server.url
    worker = start_worker(redis_url=url, namespace="insend")
    wait_until(lambda: "the outbox is away" in worker.log.read_text())
    with server:
        assert worker.process.wait(PATIENCE_SECONDS) != 0
    assert f"leaving: {WORDS}" in worker.log.read_text()


def test_doctor_and_commands_say_so(cluster: EmbeddedRedis) -> None:
    insend = CommandLine(cluster.url, "insend")
    found = insend("doctor")
    assert found.exit_code == 1
    assert f"BAD        cluster      {WORDS}" in found.stdout
    refused = insend("status")
    assert (refused.exit_code, refused.stderr) == (3, f"insend: {WORDS}\n")


@pytest.mark.parametrize("database", ["0", "1"])
def test_producers_say_so_and_leave_nothing_there(cluster: EmbeddedRedis, database: str) -> None:
    url = cluster.url.removesuffix("0") + database
    with InSend(**ACCOUNT, redis_url=url) as insend, pytest.raises(NotAccepted, match=WORDS):
        insend.link(visitor_uid=1)

    async def main() -> None:
        async with AsyncInSend(**ACCOUNT, redis_url=url) as insend:
            with pytest.raises(NotAccepted, match=WORDS):
                await insend.link(visitor_uid=1)

    asyncio.run(main())
    with redis.Redis.from_url(cluster.url) as admin:
        assert admin.dbsize() == 0


def test_events_stay_in_the_spool(cluster: EmbeddedRedis, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = str(tmp_path / "spool.db")
    with InSend(**ACCOUNT, redis_url=cluster.url, settings=Settings(spool=spool)) as insend:
        assert insend.link(visitor_uid=1).where == "spool"
        wait_until(lambda: f"waits: {WORDS}" in caplog.text)
    with redis.Redis.from_url(cluster.url) as admin:
        assert admin.dbsize() == 0
