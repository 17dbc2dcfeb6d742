"""INSEND_DURABILITY: a receipt says whether the disk, or a replica, has the event."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from async_words import eventually
from broken_redis import APPENDED, broken_redis, handshake_then
from waiting import wait_until

from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.outbox.connection import connect
from insend_relay.outbox.durability import Durability
from insend_relay.outbox.idempotency import identity
from insend_relay.outbox.record import decode
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.producers import AsyncInSend, InSend, NotAccepted, Receipt

Send = Callable[..., Receipt]
LONG_MS = 60_000  # a slow machine must not decide whether an event is confirmed
SHORT_MS = 4_000  # where no confirmation comes: it is waited out, and a slow machine appends within it


@pytest.fixture(autouse=True)
def a_slow_machine_is_not_a_busy_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that stands still for a moment asks all the same."""
    monkeypatch.setattr("insend_relay.producers.async_confirm.BUSY_SECONDS", LONG_MS / 1000)


class Calls:
    """Makes producers of either kind, and one call after the other on them."""

    def __init__(self, kind: str, stack: ExitStack) -> None:
        self.kind = kind
        self.runner = stack.enter_context(asyncio.Runner()) if kind == "asyncio" else None
        self._stack = stack

    def producer(self, server: EmbeddedRedis | str, durability: Durability, **more: Any) -> Send:
        """A function that sends one event."""
        url = server if isinstance(server, str) else server.url
        given: dict[str, Any] = {
            "app_key": "a",
            "domain": "shop.example.com",
            "redis_url": url,
            "enqueue_timeout_ms": LONG_MS,
        }
        settings = Settings(**given | more, durability=durability)
        if self.runner is None:
            insend = self._stack.enter_context(InSend(settings=settings))
            return lambda **about: insend.link(**{"visitor_uid": "42", **about})
        twin, run = AsyncInSend(settings=settings), self.runner.run
        self._stack.callback(lambda: run(twin.aclose()))
        return lambda **about: run(twin.link(**{"visitor_uid": "42", **about}))


@pytest.fixture(params=["threads", "asyncio"])
def calls(request: pytest.FixtureRequest) -> Iterator[Calls]:
    with ExitStack() as stack:
        yield Calls(request.param, stack)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., EmbeddedRedis]]:
    """Starts servers, a replica when told of whom."""
    with ExitStack() as stack:

        def begin(kind: Any = "valkey", of: EmbeddedRedis | None = None, **config: str) -> EmbeddedRedis:
            folder = tmp_path / f"server-{len(list(tmp_path.iterdir()))}"
            settings = {"repl-diskless-sync-delay": "0", **{name.replace("_", "-"): config[name] for name in config}}
            server = EmbeddedRedis(folder, server=kind, config=settings).start()
            stack.callback(server.kill)  # a replica of 6.2 takes half a minute to end by itself
            if of is not None:
                told(server, "REPLICAOF", "127.0.0.1", of.port)
                wait_until(lambda: "state=online" in told(of, "INFO", "replication").decode())
            return server

        yield begin


@pytest.fixture
def once_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """After one answer that did not come, nothing is asked again."""
    monkeypatch.setattr("insend_relay.outbox.durability.FIRST_PAUSE_SECONDS", 3_600)


def told(server: EmbeddedRedis, *command: Any) -> Any:
    with connect(server.url, timeout_seconds=60) as client:
        client.response_callbacks.clear()
        return client.execute_command(*command)


def times(server: EmbeddedRedis, command: str) -> int:
    """How often the server was given a command."""
    found = told(server, "INFO", "commandstats").decode().partition(f"cmdstat_{command}:calls=")[2]
    return int(found.partition(",")[0] or 0)


def accepted(server: EmbeddedRedis) -> int:
    return int(told(server, "HGET", "{insend:1}:ledger", "accepted") or 0)


@pytest.mark.parametrize("durability", ["memory", "fsync"])
def test_where_every_write_is_synced_an_event_is_confirmed(
    durability: Durability, calls: Calls, start: Callable[..., EmbeddedRedis]
) -> None:
    server = start()
    receipt = calls.producer(server, durability)()
    assert (receipt.where, receipt.confirmed) == ("redis", True)


@pytest.mark.usefixtures("once_only")
def test_where_the_file_is_never_synced_an_event_is_kept_and_not_confirmed(
    calls: Calls, start: Callable[..., EmbeddedRedis], caplog: pytest.LogCaptureFixture
) -> None:
    server = start(appendfsync="no")
    send = calls.producer(server, "fsync", enqueue_timeout_ms=SHORT_MS)
    first = send()
    asked = times(server, "waitaof")
    second = send()
    assert (first.where, first.confirmed, second.confirmed) == ("redis", False, False)
    assert (accepted(server), times(server, "waitaof")) == (2, asked)
    (said,) = caplog.messages
    assert said.startswith("no event is confirmed: INSEND_DURABILITY=fsync: Redis does not sync its file")


def test_when_the_file_is_synced_again_events_are_confirmed_again(
    calls: Calls, start: Callable[..., EmbeddedRedis], caplog: pytest.LogCaptureFixture
) -> None:
    server = start(appendfsync="no")
    send = calls.producer(server, "fsync", enqueue_timeout_ms=SHORT_MS)
    assert not send().confirmed
    told(server, "CONFIG", "SET", "appendfsync", "always")
    wait_until(lambda: send().confirmed)
    wait_until(lambda: send() and caplog.messages[1:])
    assert caplog.messages[1:] == ["events are confirmed again (INSEND_DURABILITY=fsync)"]


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (
            ("redis", {}),
            "needs WAITAOF, which this Redis does not have: Redis 7.2, Valkey 8 and newer have it; upgrade it",
        ),
        (("valkey", {"appendonly": "no"}), "this Redis keeps no append-only file: set appendonly yes"),
    ],
)
def test_a_redis_that_cannot_say_so_takes_nothing(
    server: tuple[str, dict[str, str]], said: str, calls: Calls, start: Callable[..., EmbeddedRedis]
) -> None:
    kind, config = server
    running = start(kind, **config)
    with pytest.raises(NotAccepted) as raised:
        calls.producer(running, "fsync")()
    assert "INSEND_DURABILITY=fsync" in str(raised.value)
    assert said in str(raised.value)
    assert not raised.value.unknown
    assert accepted(running) == 0


def test_a_user_without_the_right_to_ask_is_told_which_it_needs(
    calls: Calls, start: Callable[..., EmbeddedRedis]
) -> None:
    server = start()
    told(server, "ACL", "SETUSER", "relay", "on", ">secret", "~*", "&*", "+@all", "-waitaof")
    with pytest.raises(NotAccepted, match=r"does not let this user run WAITAOF: give it \+waitaof"):
        calls.producer(server.url.replace("127", "relay:secret@127", 1), "fsync")()


def test_a_replica_is_told_apart_from_one_that_cannot(calls: Calls, start: Callable[..., EmbeddedRedis]) -> None:
    replica = start("redis", of=start("redis"))
    with pytest.raises(NotAccepted, match="read-only replica"):
        calls.producer(replica, "replicated")()


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_a_replica_has_what_was_confirmed(kind: str, calls: Calls, start: Callable[..., EmbeddedRedis]) -> None:
    primary = start(kind)
    replica = start(kind, of=primary)
    send = calls.producer(primary, "replicated")
    for number in range(1, 20):
        assert send().confirmed
        assert accepted(replica) == number


def test_after_a_failover_every_confirmed_event_is_there(calls: Calls, start: Callable[..., EmbeddedRedis]) -> None:
    primary = start("redis")
    replica = start("redis", of=primary)
    send = calls.producer(primary, "replicated")
    ids = {send(visitor_uid=str(number % 7)).id.bytes for number in range(100)}
    primary.kill()
    told(replica, "REPLICAOF", "NO", "ONE")
    kept = Outbox(connect(replica.url))
    lanes = [kept.keys.lane(f"a/v/{number}") for number in range(7)]
    assert {decode(data).id for lane in lanes for data in kept.read("LRANGE", lane, 0, -1)} == ids
    kept.redis.close()  # type: ignore[attr-defined]  # it is a client of redis-py


def test_without_a_replica_events_are_kept_and_not_confirmed_until_there_is_one(
    calls: Calls, start: Callable[..., EmbeddedRedis]
) -> None:
    primary = start("redis")
    send = calls.producer(primary, "replicated", enqueue_timeout_ms=SHORT_MS)
    assert not send().confirmed
    start("redis", of=primary)
    wait_until(lambda: send().confirmed)


@pytest.mark.usefixtures("once_only")
@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_a_redis_that_its_replicas_have_left_takes_nothing_where_it_is_told_so(
    kind: str, calls: Calls, start: Callable[..., EmbeddedRedis], tmp_path: Path
) -> None:
    server = start(kind, min_replicas_to_write="1")
    send = calls.producer(server, "replicated", enqueue_timeout_ms=SHORT_MS)
    with pytest.raises(NotAccepted, match="too few replicas") as raised:
        send()
    assert not raised.value.unknown
    for _ in range(2):  # in an event loop the first one does not wait for the answer to its question
        asked = times(server, "wait")
        with pytest.raises(NotAccepted, match="too few replicas"):
            send()
    assert times(server, "wait") == asked, "no call waits for what did not come to the one before"
    receipt = calls.producer(server, "memory", spool=str(tmp_path / "spool.db"))()
    assert (receipt.where, accepted(server)) == ("spool", 0)


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_a_duplicate_is_confirmed_only_with_the_first_one(
    kind: str, calls: Calls, start: Callable[..., EmbeddedRedis]
) -> None:
    primary = start(kind)
    replica = start(kind, of=primary)
    os.kill(replica.pid, signal.SIGSTOP)
    try:
        receipts = [
            calls.producer(primary, "replicated", enqueue_timeout_ms=SHORT_MS)(idempotency_key="once") for _ in range(2)
        ]
    finally:
        os.kill(replica.pid, signal.SIGCONT)
    assert [(receipt.where, receipt.confirmed) for receipt in receipts] == [("redis", False), ("duplicate", False)]
    receipt = calls.producer(primary, "replicated")(idempotency_key="once")
    assert (receipt.where, receipt.confirmed) == ("duplicate", True)
    assert int(told(primary, "PTTL", "{insend:1}:once:a:" + identity("once", b'{"type":"link"}').key)) > 86_000_000


def test_an_event_that_breaks_the_rules_is_confirmed_too(calls: Calls, start: Callable[..., EmbeddedRedis]) -> None:
    receipt = calls.producer(start(), "fsync", invalid="bury")(url=42)
    assert (receipt.where, receipt.confirmed) == ("invalid", True)


@pytest.mark.parametrize(("durability", "confirmed"), [("fsync", True), ("replicated", False)])
def test_a_spooled_event_is_on_a_disk_and_on_no_other_machine(
    durability: Durability, *, confirmed: bool, calls: Calls, tmp_path: Path
) -> None:
    nobody = "redis://127.0.0.1:1/0"
    receipt = calls.producer(nobody, durability, spool=str(tmp_path / "spool.db"))()
    assert (receipt.where, receipt.confirmed) == ("spool", confirmed)


def test_a_redis_that_breaks_off_before_it_confirms_has_the_event(calls: Calls) -> None:
    def append_then_end(connection: Any) -> None:
        connection.sendall(APPENDED)
        connection.shutdown(socket.SHUT_RDWR)

    with broken_redis(handshake_then(append_then_end)) as url:
        receipt = calls.producer(url, "replicated")()
    assert (receipt.where, receipt.confirmed) == ("redis", False)


def test_a_connection_on_which_no_answer_came_is_used_no_more(calls: Calls) -> None:
    later: list[bytes] = []

    def append_then_nothing(connection: Any) -> None:
        connection.sendall(APPENDED)
        while data := connection.recv(65536):
            later.append(data)

    with broken_redis(handshake_then(append_then_nothing)) as url:
        send = calls.producer(url, "replicated", enqueue_timeout_ms=SHORT_MS)
        assert not send().confirmed
        wait_until(lambda: came_in(send))
    assert b"EVAL" not in b"".join(later)


def came_in(send: Send) -> bool:
    try:
        return send().where == "redis"
    except NotAccepted:  # it is connecting
        return False


@pytest.mark.parametrize("said", [b"-LOADING Redis is loading\r\n", b"-NOAUTH Authentication required.\r\n"])
def test_whatever_comes_instead_of_an_answer_the_event_is_kept(said: bytes, calls: Calls) -> None:
    def refuse(connection: Any) -> None:
        connection.sendall(APPENDED + said)

    question = b"WAIT\r\n$1\r\n1\r\n"
    with broken_redis(handshake_then(refuse, until=question)) as url:
        receipt = calls.producer(url, "replicated")()
    assert (receipt.where, receipt.confirmed) == ("redis", False)


def test_who_waits_for_a_question_goes_on_with_another_connection_when_that_one_is_lost(
    start: Callable[..., EmbeddedRedis],
) -> None:
    server = start("redis")

    async def main() -> tuple[Receipt, Receipt]:
        given: dict[str, Any] = {"app_key": "a", "domain": "shop.example.com", "redis_url": server.url}
        async with AsyncInSend(**given, enqueue_timeout_ms=LONG_MS, durability="replicated") as insend:
            first = asyncio.create_task(insend.link(visitor_uid="1"))
            await eventually(lambda: accepted(server))
            second = asyncio.create_task(insend.link(visitor_uid="2"))
            await asyncio.sleep(0)
            await asyncio.to_thread(told, server, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            return await first, await second

    receipts = asyncio.run(main())
    assert [(receipt.where, receipt.confirmed) for receipt in receipts] == [("redis", False)] * 2
    assert accepted(server) == 2


def test_after_scripts_are_flushed_an_event_is_confirmed(calls: Calls, start: Callable[..., EmbeddedRedis]) -> None:
    server = start()
    send = calls.producer(server, "fsync")
    send()
    told(server, "SCRIPT", "FLUSH")
    assert send().confirmed
    assert accepted(server) == 2


def test_a_burst_in_an_event_loop_asks_once_for_many(start: Callable[..., EmbeddedRedis]) -> None:
    primary = start("redis")
    replica = start("redis", of=primary)

    async def burst() -> list[Receipt]:
        given = {"app_key": "a", "domain": "shop.example.com", "redis_url": primary.url}
        async with AsyncInSend(**given, enqueue_timeout_ms=LONG_MS, durability="replicated") as insend:  # type: ignore[arg-type]
            return await asyncio.gather(*(insend.link(visitor_uid=str(number)) for number in range(300)))

    receipts = asyncio.run(burst())
    assert {(receipt.where, receipt.confirmed) for receipt in receipts} == {("redis", True)}
    assert accepted(replica) == 300
    assert times(primary, "wait") < 30
