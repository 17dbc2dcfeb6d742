"""By TLS, as a user who may touch our keys alone, all works; with somebody else's certificate nothing does."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from command_line import CommandLine
from delivering import APP, WorkerProcess
from tls_redis import behind_tls
from waiting import PATIENCE_SECONDS, wait_until

from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.console.sandbox.sandbox import Sandbox
from insend_relay.outbox.connection import connect
from insend_relay.outbox.errors import OutboxUnreachable
from insend_relay.outbox.store import Outbox
from insend_relay.producers import AsyncInSend, InSend, NotAccepted

ACCOUNT: dict[str, Any] = {"app_key": APP, "domain": "shop.example.com", "enqueue_timeout_ms": 10_000}
ACL = re.findall(r"^ACL SETUSER (.+)$", (Path(__file__).parents[2] / "docs" / "deploy.md").read_text(), re.MULTILINE)
PASSWORD = "open-sesame"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A Redis with a user who may touch our keys alone and nothing dangerous."""
    with EmbeddedRedis(tmp_path / "redis", server="redis", config={"appendfsync": "no"}) as server:
        with redis.Redis.from_url(server.url) as client:
            (as_documented,) = ACL
            client.execute_command("ACL", "SETUSER", *as_documented.replace("PASSWORD", PASSWORD).split())
        yield server


@pytest.fixture
def url(server: EmbeddedRedis, tmp_path: Path) -> Iterator[str]:
    """Its address by TLS, as that user."""
    with behind_tls(server, tmp_path) as url:
        yield url.replace("rediss://", f"rediss://relay:{PASSWORD}@")


def test_events_go_all_the_way_by_tls_as_a_user_of_our_own(
    url: str, start_worker: Callable[..., WorkerProcess], sandbox: Sandbox
) -> None:
    worker = start_worker(redis_url=url, namespace="insend")
    with InSend(**ACCOUNT, redis_url=url) as insend:
        assert insend.link(visitor_uid=1, url="https://shop.example.com/").where == "redis"

    async def main() -> None:
        async with AsyncInSend(**ACCOUNT, redis_url=url) as insend:
            assert (await insend.link(visitor_uid=2, url="https://shop.example.com/")).where == "redis"

    asyncio.run(main())
    wait_until(lambda: len(sandbox.received) == 2)
    insend_command = CommandLine(url, "insend")
    wait_until(lambda: insend_command.json("status")["delivered"] == 2)
    assert insend_command("audit").exit_code == 0
    assert "as the user relay" in insend_command("doctor").stdout
    worker.signal(signal.SIGTERM, group=False)
    assert worker.process.wait(PATIENCE_SECONDS) == 0, worker.log.read_text()
    assert PASSWORD not in worker.log.read_text()


def test_a_certificate_of_somebody_elses_is_refused(url: str, tmp_path: Path) -> None:
    stranger = url.partition("?")[0]  # by the authorities of this machine
    with connect(stranger) as client, pytest.raises(OutboxUnreachable, match=r"(?i)certificate") as raised:
        Outbox(client).apps()
    assert PASSWORD not in str(raised.value)
    with (
        InSend(**ACCOUNT, redis_url=stranger) as insend,
        pytest.raises(NotAccepted, match=r"(?i)certificate") as refused,
    ):
        insend.link(visitor_uid=1)
    assert PASSWORD not in f"{refused.value!r} {insend!r}"
    assert tmp_path.exists()


@pytest.mark.parametrize("keys", ["~{insend}*", "~{insend:1}:* ~{insend}:layout"])
def test_a_worker_that_may_not_touch_our_keys_or_celerys_ends_with_a_sentence(server: EmbeddedRedis, keys: str) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "poor", "on", f">{PASSWORD}", *keys.split(), "&*", "+@all")
    result = CommandLine(server.url.replace("redis://", f"redis://poor:{PASSWORD}@"), "insend").process("worker")
    assert result.returncode == 3
    assert "no permissions" in result.stderr
    assert "Traceback" not in result.stderr
    assert PASSWORD not in result.stderr
