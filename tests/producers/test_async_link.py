"""The link to Redis for asyncio keeps its deadline, whatever is broken, and finds back by itself."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from async_words import accepted_again, eventually, refused_call
from broken_redis import APPENDED, DUPLICATE, NOT_OURS, Answer, broken_redis, drip, handshake_then, says, silent
from waiting import PATIENCE_SECONDS, wait_until

from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.outbox.connection import connect
from insend_relay.outbox.errors import OutboxUnreachable
from insend_relay.outbox.record import Record
from insend_relay.outbox.scripts import load
from insend_relay.outbox.store import Outbox
from insend_relay.producers import AsyncInSend, NotAccepted
from insend_relay.producers.async_link import AsyncLink, _LoopLink
from insend_relay.producers.async_wire import Wire

Kept = Callable[[str], list[Record]]
ACCOUNT: dict[str, Any] = {"app_key": "test-app-key", "domain": "shop.example.com"}
PATIENT: dict[str, Any] = {**ACCOUNT, "enqueue_timeout_ms": 30_000}  # where a slow machine must not decide
AN_HOUR = 3600.0  # a call that waited would wait for long


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A Redis that a test may stop, freeze and fill."""
    with EmbeddedRedis(tmp_path, server="redis", config={"appendfsync": "everysec"}) as server:
        yield server


@pytest.fixture
def nowhere() -> str:
    """An address at which nothing listens."""
    return "redis://127.0.0.1:1/0"


def link_of(insend: AsyncInSend) -> _LoopLink:
    """What the running loop has of it."""
    return insend._link._loops[asyncio.get_running_loop()]


def wire_of(insend: AsyncInSend) -> Wire:
    """The running loop's connection."""
    wire = link_of(insend)._wire
    assert wire is not None
    return wire


async def connected(insend: AsyncInSend, then_seconds: float) -> None:
    """See to it that there is a connection; later calls have ``then_seconds``."""
    assert await insend._link.execute_command("PING") == b"PONG"
    insend._link._timeout = then_seconds


# Whatever is broken


def test_a_redis_that_accepts_and_stays_silent_holds_no_call_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("insend_relay.producers.address.CONNECT_SECONDS", AN_HOUR)
    monkeypatch.setattr("insend_relay.producers.async_address.CONNECT_SECONDS", AN_HOUR)

    async def main(url: str) -> None:
        async with AsyncInSend(**ACCOUNT, redis_url=url) as insend:
            error = await refused_call(insend)
            assert not error.unknown
            assert "no connection to Redis at 127.0.0.1:" in str(error)
            assert "call again later" in str(error)
            insend._link._timeout = AN_HOUR
            assert not (await refused_call(insend)).unknown

    with broken_redis(silent) as url:
        asyncio.run(main(url))


def test_a_silent_redis_is_named_as_the_reason_when_connecting_was_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(url: str) -> None:
        async with AsyncInSend(**ACCOUNT, redis_url=url) as insend:
            insend._link._timeout = AN_HOUR
            assert "connecting took more than 0.05 s" in str(await refused_call(insend))

    monkeypatch.setattr("insend_relay.producers.async_address.CONNECT_SECONDS", 0.05)
    with broken_redis(silent) as url:
        asyncio.run(main(url))


@pytest.mark.parametrize("broken", [drip, silent])
def test_a_redis_that_takes_the_event_and_does_not_answer_holds_no_call_up(broken: Answer) -> None:
    async def main(url: str) -> None:
        async with AsyncInSend(**PATIENT, redis_url=url) as insend:
            await connected(insend, then_seconds=2.0)
            error = await refused_call(insend)
            assert error.unknown
            assert "idempotency_key" in str(error)

    with broken_redis(handshake_then(broken)) as url:
        asyncio.run(main(url))


@pytest.mark.parametrize("answer", [*NOT_OURS, b"x" * 200_000])
def test_what_answers_anything_else_has_kept_nothing_for_certain(answer: bytes) -> None:
    async def main(url: str) -> None:
        async with AsyncInSend(**PATIENT, redis_url=url) as insend:
            assert (await refused_call(insend)).unknown

    def answers(connection: Any) -> None:
        connection.sendall(answer)
        connection.close()

    with broken_redis(handshake_then(answers)) as url:
        asyncio.run(main(url))


def test_a_redis_that_hangs_up_on_the_event_leaves_its_outcome_unknown_and_is_connected_to_at_once() -> None:
    async def main(url: str) -> None:
        async with AsyncInSend(**PATIENT, redis_url=url) as insend:
            assert (await refused_call(insend)).unknown
            await eventually(lambda: link_of(insend)._wire)

    with broken_redis(handshake_then(lambda connection: connection.close())) as url:
        asyncio.run(main(url))


def test_a_redis_that_refuses_connections_is_away_and_calls_fail_at_once(nowhere: str) -> None:
    async def main() -> None:
        async with AsyncInSend(**PATIENT, redis_url=nowhere) as insend:
            for _ in range(3):
                error = await refused_call(insend)
                assert "cannot be reached" in str(error)
                assert not error.unknown
                insend._link._timeout = AN_HOUR

    asyncio.run(main())


def test_calls_fail_while_redis_is_away_and_go_through_when_it_is_back(
    own_redis: EmbeddedRedis, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with AsyncInSend(**PATIENT, redis_url=own_redis.url) as insend:
            assert (await insend.link(visitor_uid="42")).where == "redis"
            own_redis.kill()
            wait_until(wire_of(insend).is_stale)
            assert not (await refused_call(insend)).unknown
            assert "cannot be reached" in str(await refused_call(insend))
            own_redis.start()
            assert (await accepted_again(insend)).where == "redis"

    asyncio.run(main())
    said = [record.getMessage() for record in caplog.records if record.name == "insend_relay.producers"]
    assert [line.split(" Redis")[0] for line in said] == ["no connection to", "connected to"]


def test_a_restarted_redis_costs_no_call_that_comes_after_it(own_redis: EmbeddedRedis) -> None:
    async def main() -> None:
        async with AsyncInSend(**PATIENT, redis_url=own_redis.url) as insend:
            await insend.link(visitor_uid="42")
            for _ in range(3):
                own_redis.stop()
                own_redis.start()
                wait_until(wire_of(insend).is_stale)
                assert (await insend.link(visitor_uid="42")).where == "redis"

    asyncio.run(main())


def test_a_redis_that_hangs_up_while_the_loop_runs_costs_no_call_either(own_redis: EmbeddedRedis) -> None:
    async def main() -> None:
        with connect(own_redis.url) as client:
            async with AsyncInSend(**PATIENT, redis_url=own_redis.url) as insend:
                await insend.link(visitor_uid="42")
                wire = wire_of(insend)
                client.client_kill_filter(_type="normal", skipme=True)
                await eventually(wire._task.done)  # the loop has read the end of it
                assert wire.is_stale()
                assert (await insend.link(visitor_uid="42")).where == "redis"

    asyncio.run(main())


def test_events_of_a_frozen_redis_are_safe_to_send_again_under_their_keys(own_redis: EmbeddedRedis) -> None:
    keys = [f"order {number}" for number in range(20)]

    async def main() -> None:
        async with AsyncInSend(**PATIENT, redis_url=own_redis.url) as insend:
            await asyncio.gather(*(insend.link(visitor_uid=number) for number in range(20)))
            insend._link._timeout = 2.0
            own_redis_is(signal.SIGSTOP)
            try:
                refused = await asyncio.gather(*(refused_call(insend, idempotency_key=key) for key in keys))
            finally:
                own_redis_is(signal.SIGCONT)
            assert any(error.unknown for error in refused)
            insend._link._timeout = 30.0
            again = [await accepted_again(insend, idempotency_key=key) for key in keys]
            assert "duplicate" in {receipt.where for receipt in again}  # it had them in its sockets all the time

    def own_redis_is(what: signal.Signals) -> None:
        os.kill(own_redis.pid, what)

    asyncio.run(main())
    with connect(own_redis.url) as client:
        outbox = Outbox(client)
        assert outbox.read("LLEN", outbox.keys.lane("test-app-key/v/42")) == len(keys)


def test_a_frozen_redis_costs_its_deadline_once_and_no_call_when_it_goes_on(
    own_redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("insend_relay.producers.async_address.CONNECT_SECONDS", 3600.0)

    async def main() -> None:
        async with AsyncInSend(**PATIENT, redis_url=own_redis.url) as insend:
            await connected(insend, then_seconds=2.0)
            os.kill(own_redis.pid, signal.SIGSTOP)
            try:
                assert (await refused_call(insend)).unknown
                insend._link._timeout = 3600  # from here on a call that waited would wait for long
                for _ in range(2):
                    async with asyncio.timeout(60):
                        assert not (await refused_call(insend)).unknown
            finally:
                os.kill(own_redis.pid, signal.SIGCONT)
            assert (await accepted_again(insend)).where == "redis"

    asyncio.run(main())


# What Redis may answer


def test_a_wrong_password_says_which_variable_to_look_at(redis_url: str) -> None:
    async def main() -> None:
        url = redis_url.replace("redis://", "redis://nobody:geheim@")
        async with AsyncInSend(**PATIENT, redis_url=url) as insend:
            error = await refused_call(insend)
            assert "INSEND_REDIS_URL" in str(error)
            assert "geheim" not in f"{error!r} {error.__cause__!r} {insend!r}"

    asyncio.run(main())


@pytest.mark.parametrize("at", [b"PING", b"EVALSHA"])
def test_a_redis_that_is_still_loading_has_not_kept_the_event(at: bytes) -> None:
    async def main(url: str) -> None:
        async with AsyncInSend(**PATIENT, redis_url=url) as insend:
            error = await refused_call(insend)
            assert "still loading" in str(error)
            assert not error.unknown

    loading = says(b"-LOADING Redis is loading the dataset in memory\r\n")
    with broken_redis(handshake_then(loading, until=at)) as url:
        asyncio.run(main(url))


def test_a_full_redis_is_a_clear_outcome_and_no_lost_connection(own_redis: EmbeddedRedis) -> None:
    async def main() -> None:
        with connect(own_redis.url) as client:
            async with AsyncInSend(**PATIENT, redis_url=own_redis.url) as insend:
                await insend.link(visitor_uid="42")
                wire = wire_of(insend)
                client.config_set("maxmemory", 1)
                error = await refused_call(insend)
                assert "maxmemory" in str(error)
                assert not error.unknown
                client.config_set("maxmemory", 0)
                assert (await insend.link(visitor_uid="42")).where == "redis"
                assert wire_of(insend) is wire

    asyncio.run(main())


def test_a_read_only_replica_is_left_for_a_new_connection(own_redis: EmbeddedRedis) -> None:
    async def main() -> None:
        with connect(own_redis.url) as client:
            async with AsyncInSend(**PATIENT, redis_url=own_redis.url) as insend:
                await insend.link(visitor_uid="42")
                wire = wire_of(insend)
                client.replicaof("127.0.0.1", "1")
                assert not (await refused_call(insend)).unknown
                client.replicaof("NO", "ONE")
                assert (await accepted_again(insend)).where == "redis"
                assert wire_of(insend) is not wire

    asyncio.run(main())


def test_a_redis_that_forbids_our_commands_is_no_reason_to_reconnect(redis_url: str, client: redis.Redis) -> None:
    client.acl_setuser("async", enabled=True, passwords=["+word"], commands=["+ping", "+client", "+auth", "+select"])

    async def main() -> None:
        async with AsyncInSend(**PATIENT, redis_url=redis_url.replace("redis://", "redis://async:word@")) as insend:
            assert "refused the command" in str(await refused_call(insend))
            wire = wire_of(insend)
            await refused_call(insend)
            assert wire_of(insend) is wire

    asyncio.run(main())


def test_a_redis_that_has_forgotten_the_scripts_is_told_them(own_redis: EmbeddedRedis) -> None:
    async def main() -> None:
        with connect(own_redis.url) as client:
            async with AsyncInSend(**PATIENT, redis_url=own_redis.url) as insend:
                await insend.link(visitor_uid="42")
                wire = wire_of(insend)
                client.script_flush()
                assert (await insend.link(visitor_uid="42")).where == "redis"
                assert wire_of(insend) is wire

    asyncio.run(main())


def test_a_connection_with_an_answer_that_nobody_asked_for_is_not_used_again() -> None:
    served: list[Any] = []
    answered = threading.Event()

    def one_too_many(connection: Any) -> None:
        served.append(connection)
        connection.sendall(APPENDED)
        if len(served) == 1:
            answered.wait()
            connection.sendall(b"-OOM this is nobody's\r\n")
        silent(connection)

    async def main(url: str) -> None:
        async with AsyncInSend(**PATIENT, redis_url=url) as insend:
            assert (await insend.link(visitor_uid="42")).where == "redis"
            wire = wire_of(insend)
            answered.set()
            wait_until(wire.is_stale)  # the loop has not read it
            assert (await insend.link(visitor_uid="42")).where == "redis"

    with broken_redis(handshake_then(one_too_many)) as url:
        asyncio.run(main(url))
    assert len(served) == 2


# The deadline


def test_a_call_has_one_deadline_for_all_its_commands(redis_url: str) -> None:
    async def main() -> None:
        link = AsyncLink(redis_url, timeout_seconds=30)
        call = link.call()
        assert await call.execute_command("PING") == b"PONG"
        wire = link._loops[asyncio.get_running_loop()]._wire
        call.deadline = time.monotonic()
        with pytest.raises(OutboxUnreachable, match="Redis took no command") as raised:
            await call.execute_command("PING")
        assert not raised.value.unknown
        assert link._loops[asyncio.get_running_loop()]._wire is wire
        await link.close()

    asyncio.run(main())


def test_calls_at_the_same_time_have_deadlines_of_their_own(redis_url: str) -> None:
    async def main() -> None:
        link = AsyncLink(redis_url, timeout_seconds=30)

        async def call() -> float:
            begun = link.call()
            await begun.execute_command("PING")
            return begun.deadline

        first = asyncio.create_task(call())
        await eventually(lambda: link._loops)
        link._timeout = 60
        assert await asyncio.create_task(call()) - await first > 20
        await link.close()

    asyncio.run(main())


def test_an_answer_that_came_in_time_counts_however_long_something_else_keeps_the_loop(
    redis_url: str, namespace: str
) -> None:
    async def main() -> None:
        async with AsyncInSend(**PATIENT, redis_url=redis_url, namespace=namespace) as insend:
            await insend.link(visitor_uid="42")
            wire = wire_of(insend)
            insend._link._timeout = 1.0
            call = asyncio.create_task(insend.link(visitor_uid="42"))
            await asyncio.sleep(0)  # it is sent
            assert wire._answers
            over = time.monotonic() + 1.0
            wait_until(lambda: time.monotonic() > over and wire._is_readable())  # a handler that blocks the loop
            assert (await call).where == "redis"

    asyncio.run(main())


def test_who_connects_early_has_a_connection_and_an_absent_redis_raises_nothing(redis_url: str, nowhere: str) -> None:
    async def main() -> None:
        async with AsyncInSend(**PATIENT, redis_url=redis_url) as insend:
            await insend.connect()
            assert not wire_of(insend).is_stale()
        async with AsyncInSend(**PATIENT, redis_url=nowhere) as insend:
            await insend.connect()
            assert "cannot be reached" in str(await refused_call(insend))

    asyncio.run(main())


def test_a_fresh_redis_knows_the_script_before_the_first_call(own_redis: EmbeddedRedis) -> None:
    async def main() -> None:
        async with AsyncInSend(**PATIENT, redis_url=own_redis.url) as insend:
            await insend.connect()
        with connect(own_redis.url) as client:
            assert client.script_exists(load("append").sha) == [True]

    asyncio.run(main())


def test_a_caller_that_tries_again_at_once_lets_the_others_run(nowhere: str) -> None:
    async def main() -> None:
        async with AsyncInSend(**PATIENT, redis_url=nowhere) as insend:
            await refused_call(insend)
            others: list[str] = []
            asyncio.get_running_loop().call_soon(others.append, "ran")
            with pytest.raises(NotAccepted):
                await insend.link(visitor_uid="42")
            assert others == ["ran"]

    asyncio.run(main())


# Many calls at once


def test_many_calls_share_one_connection_and_each_visitors_events_keep_their_order(
    redis_url: str, namespace: str, kept: Kept
) -> None:
    visitors = 200

    async def visit(insend: AsyncInSend, number: int) -> None:
        for page in range(10):
            await insend.link(key_page_id=page, visitor_uid=number)

    async def main() -> None:
        async with AsyncInSend(**PATIENT, redis_url=redis_url, namespace=namespace) as insend:
            await insend.link(visitor_uid="first")
            wire = wire_of(insend)
            await asyncio.gather(*(visit(insend, number) for number in range(visitors)))
            assert wire_of(insend) is wire
            assert not wire._answers
            assert not link_of(insend)._waiters

    asyncio.run(main())
    for number in range(visitors):
        pages = [json.loads(record.payload)["properties"]["key_page_id"] for record in kept(f"v/{number}")]
        assert pages == list(range(10))


def test_a_command_leaves_the_moment_it_is_called_however_busy_the_loop_is_afterwards(
    redis_url: str, namespace: str, kept: Kept
) -> None:
    async def main() -> None:
        async with AsyncInSend(**PATIENT, redis_url=redis_url, namespace=namespace) as insend:
            await insend.link(visitor_uid="first")
            calls = [asyncio.create_task(insend.link(visitor_uid=number)) for number in range(50)]
            await asyncio.sleep(0)
            wait_until(lambda: all(kept(f"v/{number}") for number in range(50)))  # the loop stands still meanwhile
            assert not any(call.done() for call in calls)
            assert {(await call).where for call in calls} == {"redis"}

    asyncio.run(main())


def test_an_answer_that_is_late_is_nobodys_and_those_behind_it_have_their_own_deadlines() -> None:
    go_on = threading.Event()
    served: list[Any] = []

    def late(connection: Any) -> None:
        served.append(connection)
        if len(served) == 1:
            go_on.wait(PATIENCE_SECONDS)
            connection.sendall(APPENDED + DUPLICATE)
        else:
            connection.sendall(APPENDED)
        silent(connection)

    async def main(url: str) -> None:
        async with AsyncInSend(**PATIENT, redis_url=url) as insend:
            await insend.connect()
            wire = wire_of(insend)
            insend._link._timeout = 2.0
            hasty = asyncio.create_task(refused_call(insend))
            await asyncio.sleep(0)
            insend._link._timeout = PATIENCE_SECONDS
            patient = asyncio.create_task(insend.link(visitor_uid="43", idempotency_key="k"))
            assert (await hasty).unknown
            await eventually(lambda: link_of(insend)._wire)  # no call waits long for it after a late answer
            assert (await insend.link(visitor_uid="44")).where == "redis"  # on a new connection
            assert wire_of(insend) is not wire
            go_on.set()
            assert (await patient).where == "duplicate"  # its own answer, not the late one
            await eventually(wire._task.done)

    with broken_redis(handshake_then(late)) as url:
        asyncio.run(main(url))


def test_a_unix_socket_will_do(tmp_path: Path) -> None:
    path = f"/tmp/insend-async-{os.getpid()}.sock"  # noqa: S108 - a socket's path may have 107 characters at most

    async def main() -> None:
        async with AsyncInSend(**PATIENT, redis_url=f"unix://{path}") as insend:
            assert (await insend.link(visitor_uid="42")).where == "redis"
            assert path in repr(insend)

    with EmbeddedRedis(tmp_path, server="redis", config={"unixsocket": path}):
        asyncio.run(main())


def test_an_event_that_was_not_accepted_says_so_by_nothing_but_not_accepted(nowhere: str) -> None:
    async def main() -> None:
        async with AsyncInSend(**PATIENT, redis_url=nowhere, invalid="bury") as insend:
            for call in (insend.mailto(email=""), insend.link(visitor_uid=1)):
                with pytest.raises(NotAccepted):
                    await call
            assert (await insend.link()).where == "no_visitor"  # nothing is lost but a count

    asyncio.run(main())
