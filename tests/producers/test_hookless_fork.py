"""A fork in C, without Python's hooks: the child has connections and slots of its own, and the parent keeps its."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import hookless
import pytest
import redis
from tls_redis import behind_tls_of_a_process

from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.outbox.record import Record
from insend_relay.producers import AsyncInSend, InSend

Kept = Callable[[str], list[Record]]
ACCOUNT: dict[str, Any] = {"app_key": "test-app-key", "domain": "shop.example.com", "enqueue_timeout_ms": 20_000}


def calls(insend: InSend, uid: int, number: int = 20) -> None:
    for _ in range(number):
        assert insend.link(visitor_uid=uid).where == "redis"


def test_children_of_a_connected_parent_keep_all_their_events_and_so_does_the_parent(
    insend: InSend, kept: Kept
) -> None:
    calls(insend, 0, 1)
    parents = list(insend._link._pools.get()._idle)
    children = [hookless.fork(partial(calls, insend, number)) for number in (1, 2, 3)]
    calls(insend, 0)
    assert [hookless.ended(child) for child in children] == [0, 0, 0]
    calls(insend, 0)
    assert list(insend._link._pools.get()._idle) == parents, "the parent's connection has lasted"
    assert [len(kept(f"v/{uid}")) for uid in range(4)] == [41, 20, 20, 20]
    assert len({record.id for uid in range(4) for record in kept(f"v/{uid}")}) == 101


def test_a_grandchild_whose_parent_never_called_has_a_connection_of_its_own(insend: InSend, kept: Kept) -> None:
    calls(insend, 0, 1)

    def child() -> None:
        assert hookless.ended(hookless.fork(lambda: calls(insend, 1))) == 0
        calls(insend, 2)

    assert hookless.ended(hookless.fork(child)) == 0
    calls(insend, 0)
    assert [len(kept(f"v/{uid}")) for uid in range(3)] == [21, 20, 20]


@pytest.mark.parametrize("fork", ["with hooks", "without hooks"])
def test_a_child_closes_its_copy_of_the_parents_connection_without_a_word(
    fork: str, tmp_path: Path, namespace: str
) -> None:
    with (
        EmbeddedRedis(tmp_path, server="redis") as server,
        behind_tls_of_a_process(server, tmp_path) as url,
        InSend(**ACCOUNT, redis_url=url, namespace=namespace) as insend,
    ):
        calls(insend, 0, 1)
        (connection,) = insend._link._pools.get()._idle
        descriptors = [connection._look.fileno(), connection._socket.fileno()]

        def child() -> None:
            calls(insend, 1, 5)
            null = Path(os.devnull).stat().st_rdev
            assert [os.fstat(descriptor).st_rdev for descriptor in descriptors] == [null] * 2

        assert hookless.ended(hookless.fork(child, hooks=fork == "with hooks")) == 0
        calls(insend, 0, 5)  # a TLS close_notify of the child would have ended it
        assert list(insend._link._pools.get()._idle) == [connection]


def test_an_event_loop_of_a_child_has_a_connection_of_its_own(redis_url: str, namespace: str, kept: Kept) -> None:
    ainsend = AsyncInSend(**ACCOUNT, redis_url=redis_url, namespace=namespace)

    async def acalls(uid: int) -> None:
        for _ in range(10):
            assert (await ainsend.link(visitor_uid=uid)).where == "redis"

    def run_calls(uid: int) -> None:
        asyncio.run(acalls(uid))

    loop = asyncio.new_event_loop()
    loop.run_until_complete(acalls(0))
    (link,) = ainsend._link._loops.values()
    parents = link._wire
    children = [hookless.fork(partial(run_calls, number)) for number in (1, 2)]
    loop.run_until_complete(acalls(0))
    assert [hookless.ended(child) for child in children] == [0, 0]
    loop.run_until_complete(acalls(0))
    assert link._wire is parents
    loop.run_until_complete(ainsend.aclose())
    loop.close()
    assert [len(kept(f"v/{uid}")) for uid in range(3)] == [30, 10, 10]


def test_a_child_leaves_no_connection_open_that_its_parent_has_closed(
    insend: InSend, client: redis.Redis, tmp_path: Path
) -> None:
    calls(insend, 0, 1)
    (connection,) = insend._link._pools.get()._idle
    address = "{}:{}".format(*connection._socket.getsockname())
    go_on = tmp_path / "go on"
    os.mkfifo(go_on)

    def child() -> None:
        calls(insend, 1, 1)
        go_on.read_text()  # until the parent has looked

    pid = hookless.fork(child)
    with go_on.open("w"):  # waits for the child's call
        insend.close()
        assert address not in [row["addr"] for row in client.client_list()]
    assert hookless.ended(pid) == 0
