"""The producers' connections have TCP keep-alive: no firewall forgets them, and a host that has gone is noticed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tls_redis import behind_tls

from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.outbox.keep_alive import IDLE_SECONDS, INTERVAL_SECONDS, PROBES
from insend_relay.producers import AsyncInSend, InSend

ACCOUNT: dict[str, Any] = {"app_key": "test-app-key", "domain": "shop.example.com", "enqueue_timeout_ms": 20_000}


@pytest.fixture(params=["tcp", "tls"])
def url(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> Iterator[str]:
    """An address of a Redis."""
    with contextlib.ExitStack() as stack:
        if request.param == "tls":
            server = stack.enter_context(EmbeddedRedis(tmp_path, server="redis"))
            redis_url = stack.enter_context(behind_tls(server, tmp_path))
        yield redis_url


def leave_it_to_us(link: Any) -> None:
    """Let redis-py set no keep-alive: newer versions would by default, older ones would not."""
    link.address._options["socket_keepalive"] = False


def check(connected: Any) -> None:
    assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    if sys.platform == "linux":
        options = socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT
        values = [connected.getsockopt(socket.IPPROTO_TCP, option) for option in options]
        assert values == [IDLE_SECONDS, INTERVAL_SECONDS, PROBES]


def test_a_connection_of_a_thread_has_it(url: str) -> None:
    with InSend(**ACCOUNT, redis_url=url) as insend:
        leave_it_to_us(insend._link)
        insend.connect()
        (connection,) = insend._link._pools.get()._idle
        check(connection._socket._inner)


def test_a_connection_of_an_event_loop_has_it(url: str) -> None:
    async def main() -> None:
        async with AsyncInSend(**ACCOUNT, redis_url=url) as ainsend:
            leave_it_to_us(ainsend._link)
            await ainsend.connect()
            (link,) = ainsend._link._loops.values()
            assert link._wire is not None
            check(link._wire._writer.get_extra_info("socket"))

    asyncio.run(main())


def test_a_unix_socket_needs_none(tmp_path: Path) -> None:
    path = f"/tmp/insend-keep-{os.getpid()}.sock"  # noqa: S108 - a socket's path may have 107 characters, tmp_path has more
    with EmbeddedRedis(tmp_path, server="redis", config={"unixsocket": path}):

        async def main() -> None:
            async with AsyncInSend(**ACCOUNT, redis_url=f"unix://{path}") as ainsend:
                assert (await ainsend.link(visitor_uid=1)).where == "redis"

        asyncio.run(main())
        with InSend(**ACCOUNT, redis_url=f"unix://{path}") as insend:
            assert insend.link(visitor_uid=1).where == "redis"
