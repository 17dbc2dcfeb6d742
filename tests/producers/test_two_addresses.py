"""A name with several addresses: one that is no use hides none that is (RFC 8305), for all that connect to Redis."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from tls_redis import behind_tls, impostor
from two_addresses import HOST, frozen, resolve_to, swallowing
from waiting import wait_until

from insend_relay.console.sandbox.embedded import EmbeddedRedis, free_port
from insend_relay.outbox.connection import connect
from insend_relay.outbox.errors import OutboxRefused, OutboxUnreachable
from insend_relay.outbox.store import Outbox
from insend_relay.producers.async_link import AsyncLink
from insend_relay.producers.link import Link

SECONDS = 100.0  # a slow machine must not decide; the time-out of one connection is far below
Ask = Callable[[str], int]


def by_link(url: str) -> int:
    """The port that a producer gets to, on its first two connections."""
    with closing(Link(url, timeout_seconds=SECONDS)) as link:
        first = int(link.execute_command("CONFIG", "GET", "port")[1])
        for connection in list(link._pools.get()._open):
            link._pools.get().drop(connection)
        assert int(link.execute_command("CONFIG", "GET", "port")[1]) == first
        return first


def by_async_link(url: str) -> int:
    """The port that a producer in asyncio gets to, on its first two connections."""

    async def ask() -> int:
        link = AsyncLink(url, timeout_seconds=SECONDS)
        first = int((await link.execute_command("CONFIG", "GET", "port"))[1])
        await link.close()
        assert int((await link.execute_command("CONFIG", "GET", "port"))[1]) == first
        await link.close()
        return first

    return asyncio.run(ask())


def by_client(url: str) -> int:
    """The port that a worker or a command gets to, on its first two connections."""
    with connect(url) as client:
        first = int(client.config_get("port")["port"])
        client.connection_pool.disconnect()
        assert int(client.config_get("port")["port"]) == first
        return first


each_way = pytest.mark.parametrize("ask", [by_link, by_async_link, by_client])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """The primary."""
    with EmbeddedRedis(tmp_path_factory.mktemp("primary"), server="redis", config={"appendonly": "no"}) as server:
        yield server


@pytest.fixture
def replica(server: EmbeddedRedis, tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """Its replica."""
    with EmbeddedRedis(tmp_path / "replica", server="redis", config={"appendonly": "no"}) as replica:
        with redis.Redis.from_url(replica.url) as admin:
            admin.replicaof("127.0.0.1", server.port)
            wait_until(lambda: "up" in str(admin.info("replication").get("master_link_status")))
        yield replica


@each_way
def test_an_address_that_swallows_packets(ask: Ask, server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    with swallowing() as port:
        assert ask(resolve_to(monkeypatch, port, server.port)) == server.port


@each_way
def test_a_frozen_node_loses_its_connection_is_closed_and_is_not_tried_first_again(
    ask: Ask, server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with frozen() as node:
        assert ask(resolve_to(monkeypatch, node.port, server.port)) == server.port
        wait_until(lambda: node.closed == node.taken)
        assert node.taken == 1  # the second connection tried first what had worked


@each_way
def test_a_node_that_is_not_there(ask: Ask, server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(resolve_to(monkeypatch, free_port(), server.port)) == server.port


@each_way
def test_a_replica_beside_its_primary(
    ask: Ask, server: EmbeddedRedis, replica: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(resolve_to(monkeypatch, replica.port, server.port)) == server.port


@each_way
def test_a_replica_alone_is_still_there_for_commands_that_read(
    ask: Ask, replica: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(resolve_to(monkeypatch, replica.port, free_port())) == replica.port


@each_way
def test_a_node_that_refuses_the_password(
    ask: Ask, server: EmbeddedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddedRedis(tmp_path / "other", server="redis", config={"appendonly": "no"}) as other:
        with redis.Redis.from_url(other.url) as admin:
            admin.config_set("requirepass", "another")
        with redis.Redis.from_url(server.url) as admin:
            admin.execute_command("ACL", "SETUSER", "relay", "on", ">open-sesame", "~*", "&*", "+@all")
        url = resolve_to(monkeypatch, other.port, server.port).replace("redis://", "redis://relay:open-sesame@")
        assert ask(url) == server.port


@each_way
def test_an_impostor_gets_no_password(
    ask: Ask, server: EmbeddedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "false").mkdir()
    with impostor(tmp_path / "false") as stranger, behind_tls(server, tmp_path, HOST) as url:
        port = int(url.partition("?")[0].rpartition(":")[2].partition("/")[0])
        resolve_to(monkeypatch, stranger.port, port)
        assert ask(f"rediss://{HOST}:6379/0?{url.partition('?')[2]}") == server.port
        assert not stranger.received


@pytest.mark.parametrize(("first", "kind"), [("password", OutboxRefused), ("nothing", OutboxUnreachable)])
def test_when_none_works_the_error_is_what_a_server_said(
    first: str, kind: type[Exception], server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = [free_port(), server.port if first == "password" else free_port()]
    url = resolve_to(monkeypatch, *ports).replace("redis://", "redis://stranger:open-sesame@")
    with connect(url) as client, pytest.raises(kind):
        Outbox(client).apps()


@each_way
def test_no_thread_and_no_connection_is_left_of_a_race(
    ask: Ask, server: EmbeddedRedis, replica: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(resolve_to(monkeypatch, replica.port, server.port))
    wait_until(lambda: not [each for each in threading.enumerate() if each.name == "insend-connect"])
    for each in (server, replica):
        with redis.Redis.from_url(each.url) as admin:
            wait_until(partial(_serves_none_of_ours, admin))


def _serves_none_of_ours(admin: Any) -> bool:
    return not any(each["name"].startswith("insend-relay") for each in admin.client_list())
