"""The link to Redis keeps its deadline, whatever is broken, and finds back by itself."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import hookless
import pytest
import redis
from broken_redis import NOT_OURS, Answer, broken_redis, drip, handshake_then, says, silent
from waiting import PATIENCE_SECONDS, wait_until

from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.outbox.connection import connect
from insend_relay.outbox.errors import OutboxUnreachable
from insend_relay.outbox.record import Record
from insend_relay.outbox.store import Outbox
from insend_relay.producers import InSend, NotAccepted, Receipt
from insend_relay.producers.link import Call, Link
from insend_relay.producers.pool import MAX_CONNECTIONS, Pool

Kept = Callable[[str], list[Record]]
ACCOUNT: dict[str, Any] = {"app_key": "test-app-key", "domain": "shop.example.com"}
PATIENT: dict[str, Any] = {**ACCOUNT, "enqueue_timeout_ms": 10_000}  # where a slow machine must not decide
FAR_BELOW_HANGING = 60.0  # seconds; a call has 0.25 or 2, and without a deadline these would take an hour or for ever


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A Redis that a test may stop, freeze and fill."""
    with EmbeddedRedis(tmp_path, server="redis", config={"appendfsync": "everysec"}) as server:
        yield server


def pool_of(insend: InSend) -> Pool:
    """Its connections in this process."""
    return insend._link._pools.get()


def connected(insend: InSend) -> None:
    """Wait until there is a connection, so that a call's time goes into its command."""
    assert insend._link.execute_command("PING") == b"PONG"


def refused_call(insend: InSend) -> tuple[NotAccepted, float]:
    """A call that must fail, and the seconds that it took."""
    start = time.monotonic()
    with pytest.raises(NotAccepted) as raised:
        insend.link(visitor_uid="42")
    return raised.value, time.monotonic() - start


def accepted_again(insend: InSend, **about: Any) -> Receipt:
    """The receipt of the first call that goes through."""
    receipts: list[Receipt] = []

    def call() -> bool:
        with suppress(NotAccepted):
            receipts.append(insend.link(visitor_uid="42", **about))
        return bool(receipts)

    wait_until(call)
    return receipts[0]


def test_a_redis_that_accepts_and_stays_silent_holds_no_call_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("insend_relay.producers.address.CONNECT_SECONDS", 3600.0)
    monkeypatch.setattr("insend_relay.producers.deadline.CONNECT_SECONDS", 3600.0)
    with broken_redis(silent) as url, InSend(**ACCOUNT, redis_url=url) as insend:
        error, seconds = refused_call(insend)
        assert seconds < FAR_BELOW_HANGING
        assert not error.unknown
        assert "call again later" in str(error)
        insend._link._timeout = 3600  # from here on a call that waited would wait for long
        assert refused_call(insend)[1] < FAR_BELOW_HANGING
        insend._link._timeout = 0.25


@pytest.mark.parametrize("broken", [drip, silent, says(b"HTTP/1.1 400 Bad Request\r\n\r\n")])
def test_a_redis_that_takes_the_event_and_does_not_answer_holds_no_call_up(broken: Answer) -> None:
    with broken_redis(handshake_then(broken)) as url, InSend(**PATIENT, redis_url=url) as insend:
        connected(insend)
        insend._link._timeout = 2.0
        error, seconds = refused_call(insend)
        assert seconds < FAR_BELOW_HANGING
        assert error.unknown
        assert "idempotency_key" in str(error)


@pytest.mark.parametrize("answer", NOT_OURS)
def test_what_answers_anything_else_has_kept_nothing_for_certain(answer: bytes) -> None:
    with broken_redis(handshake_then(says(answer))) as url, InSend(**PATIENT, redis_url=url) as insend:
        assert refused_call(insend)[0].unknown


def test_a_redis_that_hangs_up_on_the_event_leaves_its_outcome_unknown() -> None:
    hang_up = handshake_then(lambda connection: connection.close())
    with broken_redis(hang_up) as url, InSend(**PATIENT, redis_url=url) as insend:
        assert refused_call(insend)[0].unknown


def test_calls_fail_while_redis_is_away_and_go_through_when_it_is_back(own_redis: EmbeddedRedis) -> None:
    with InSend(**PATIENT, redis_url=own_redis.url) as insend:
        assert insend.link(visitor_uid="42").where == "redis"
        own_redis.kill()
        wait_until(pool_of(insend)._idle[0].is_stale)
        assert not refused_call(insend)[0].unknown
        wait_until(lambda: pool_of(insend)._away)
        assert "cannot be reached" in str(refused_call(insend)[0])
        own_redis.start()
        assert accepted_again(insend).where == "redis"


def test_a_restarted_redis_costs_no_call_that_comes_after_it(own_redis: EmbeddedRedis) -> None:
    with InSend(**PATIENT, redis_url=own_redis.url) as insend:
        for _ in range(3):
            insend.link(visitor_uid="42")
            own_redis.stop()
            own_redis.start()
        assert insend.link(visitor_uid="42").where == "redis"


def test_who_connects_early_has_a_connection_and_an_absent_redis_raises_nothing(redis_url: str, namespace: str) -> None:
    with InSend(**PATIENT, redis_url=redis_url, namespace=namespace) as insend:
        insend.connect()
        assert len(pool_of(insend)._idle) == 1
    with InSend(**PATIENT, redis_url="redis://127.0.0.1:1/0") as insend:
        insend.connect()
        assert "cannot be reached" in str(refused_call(insend)[0])


def test_a_frozen_redis_costs_its_deadline_once_and_no_call_when_it_goes_on(
    own_redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("insend_relay.producers.deadline.CONNECT_SECONDS", 3600.0)
    with InSend(**PATIENT, redis_url=own_redis.url) as insend:
        connected(insend)
        insend._link._timeout = 2.0
        os.kill(own_redis.pid, signal.SIGSTOP)
        try:
            assert refused_call(insend)[0].unknown
            insend._link._timeout = 2 * FAR_BELOW_HANGING  # from here on a call that waited would wait for long
            for _ in range(2):
                error, seconds = refused_call(insend)
                assert seconds < FAR_BELOW_HANGING
                assert not error.unknown
        finally:
            os.kill(own_redis.pid, signal.SIGCONT)
        assert accepted_again(insend).where == "redis"
        assert not pool_of(insend)._doubted


def test_after_a_late_answer_another_connection_that_answers_ends_all_doubt(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("insend_relay.producers.pool.MAX_CONNECTIONS", 1)
    link = Link(redis_url, timeout_seconds=10)
    pool = link._pools.get()
    held = pool.take(time.monotonic() + 60)
    pool._doubted = True  # as if an answer on another had been late
    with pytest.raises(OutboxUnreachable, match="within 5 ms"):
        pool.take(time.monotonic() + 60)
    pool.give_back(held)
    assert (pool._away, pool._doubted) == (None, False)
    assert link.execute_command("PING") == b"PONG"
    link.close()


def test_an_event_of_unknown_outcome_is_safe_to_send_again_under_its_key(own_redis: EmbeddedRedis) -> None:
    with InSend(**PATIENT, redis_url=own_redis.url) as insend, connect(own_redis.url) as client:
        insend.link(visitor_uid="41")
        insend._link._timeout = 2.0
        os.kill(own_redis.pid, signal.SIGSTOP)
        try:
            with pytest.raises(NotAccepted) as raised:
                insend.link(visitor_uid="42", idempotency_key="once")
        finally:
            os.kill(own_redis.pid, signal.SIGCONT)
        assert raised.value.unknown
        insend._link._timeout = 10.0
        again = accepted_again(insend, idempotency_key="once")
        assert again.where == "duplicate"  # the frozen Redis had it in its socket all the time
        outbox = Outbox(client)
        assert outbox.read("LLEN", outbox.keys.lane("test-app-key/v/42")) == 1


def test_many_threads_share_a_bounded_number_of_connections(redis_url: str, namespace: str, kept: Kept) -> None:
    at_once = threading.Barrier(2 * MAX_CONNECTIONS, timeout=PATIENCE_SECONDS)
    with InSend(**PATIENT, redis_url=redis_url, namespace=namespace) as insend:

        def work(number: int) -> None:
            at_once.wait()
            for page in range(10):
                insend.link(key_page_id=page, visitor_uid=number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(2 * MAX_CONNECTIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        pool = pool_of(insend)
        wait_until(lambda: len(pool._idle) == len(pool._open))  # the last one may just be opened
        assert 1 <= len(pool._open) <= MAX_CONNECTIONS
    assert [len(kept(f"v/{number}")) for number in range(2 * MAX_CONNECTIONS)] == [10] * 2 * MAX_CONNECTIONS


def test_when_all_connections_are_busy_a_call_waits_for_one_of_them(redis_url: str) -> None:
    link = Link(redis_url, timeout_seconds=2)
    pool = link._pools.get()
    try:
        busy = [pool.take(time.monotonic() + 60) for _ in range(MAX_CONNECTIONS)]
        with pytest.raises(OutboxUnreachable, match="busy"):
            link.execute_command("PING")
        pool.give_back(busy.pop())
        assert Call(link, time.monotonic() + 60).execute_command("PING") == b"PONG"
        for connection in busy:
            pool.give_back(connection)
    finally:
        link.close()


def test_a_forked_child_has_a_link_of_its_own(insend: InSend, kept: Kept) -> None:
    insend.link(key_page_id="before", visitor_uid="42")
    parent_connection = pool_of(insend)._idle[0]

    def in_child() -> None:
        insend.link(key_page_id="child", visitor_uid="42")
        assert parent_connection not in pool_of(insend)._idle

    assert hookless.ended(hookless.fork(in_child, hooks=True)) == 0
    insend.link(key_page_id="parent", visitor_uid="42")
    assert list(pool_of(insend)._idle) == [parent_connection]
    assert len(kept("v/42")) == 3


def test_close_ends_the_thread_and_the_connections(redis_url: str, namespace: str, client: redis.Redis) -> None:
    insend = InSend(**PATIENT, redis_url=redis_url, namespace=namespace)
    insend.link(visitor_uid="42")
    connection = pool_of(insend)._idle[0]
    number = connection._connection._sock.getsockname()[1]
    thread = pool_of(insend)._connector._place["thread"]
    insend.close()
    insend.close()
    assert not thread.is_alive()
    wait_until(lambda: all(not row["addr"].endswith(f":{number}") for row in client.client_list()))


def test_a_wrong_password_says_which_variable_to_look_at(redis_url: str) -> None:
    url = redis_url.replace("redis://", "redis://nobody:geheim@")
    with InSend(**PATIENT, redis_url=url) as insend:
        error, _ = refused_call(insend)
    assert "INSEND_REDIS_URL" in str(error)
    assert "geheim" not in str(error)


def test_a_redis_that_forbids_our_commands_is_no_reason_to_reconnect(redis_url: str, client: redis.Redis) -> None:
    client.acl_setuser("pinger", enabled=True, passwords=["+word"], commands=["+ping", "+client", "+auth", "+select"])
    url = redis_url.replace("redis://", "redis://pinger:word@")
    with InSend(**PATIENT, redis_url=url) as insend:
        assert "refused the command" in str(refused_call(insend)[0])
        connection = pool_of(insend)._idle[0]
        refused_call(insend)
        assert list(pool_of(insend)._idle) == [connection]


def test_a_full_redis_is_a_clear_outcome_and_no_lost_connection(own_redis: EmbeddedRedis) -> None:
    with InSend(**PATIENT, redis_url=own_redis.url) as insend, connect(own_redis.url) as client:
        insend.link(visitor_uid="42")
        client.config_set("maxmemory", 1)
        error, _ = refused_call(insend)
        assert "maxmemory" in str(error)
        assert not error.unknown
        client.config_set("maxmemory", 0)
        assert insend.link(visitor_uid="42").where == "redis"


def test_a_read_only_replica_is_left_for_a_new_connection(own_redis: EmbeddedRedis) -> None:
    with InSend(**PATIENT, redis_url=own_redis.url) as insend, connect(own_redis.url) as client:
        insend.link(visitor_uid="42")
        connection = pool_of(insend)._idle[0]
        client.replicaof("127.0.0.1", "1")
        assert not refused_call(insend)[0].unknown
        client.replicaof("NO", "ONE")
        assert accepted_again(insend).where == "redis"
        assert connection not in pool_of(insend)._idle


def test_a_unix_socket_will_do(tmp_path: Path) -> None:
    path = f"/tmp/insend-{os.getpid()}.sock"  # noqa: S108 - a socket's path may have 107 characters, tmp_path has more
    with (
        EmbeddedRedis(tmp_path, server="redis", config={"unixsocket": path}),
        InSend(**PATIENT, redis_url=f"unix://{path}") as insend,
    ):
        assert insend.link(visitor_uid="42").where == "redis"
        assert path in repr(insend)


def test_a_call_has_one_deadline_for_all_its_commands(redis_url: str) -> None:
    link = Link(redis_url, timeout_seconds=30)
    try:
        call = link.call()
        assert call.execute_command("PING") == b"PONG"
        call.deadline = 0.0
        with pytest.raises(OutboxUnreachable, match="Redis took no command"):
            call.execute_command("PING")
    finally:
        link.close()
