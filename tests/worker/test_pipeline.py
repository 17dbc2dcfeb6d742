"""The pipelined connection that greenlets share: packets, errors of one command, errors of a whole packet."""

from __future__ import annotations

import _socket
import socket
import threading
from typing import Any

import gevent
import gevent.socket
import pytest
import redis
from redis.exceptions import ResponseError
from waiting import PATIENCE_SECONDS

from insend_relay.outbox.connection import connect
from insend_relay.worker.green_thread import Crew, Door, GreenThread
from insend_relay.worker.pipeline import Pipeline


def asked(url: str, *commands: tuple[Any, ...], **connection: Any) -> list[Any]:
    """What greenlets of one thread that ask at the same moment get; an exception where one was raised."""
    thread = GreenThread("test")

    def one(pipeline: Pipeline, command: tuple[Any, ...]) -> Any:
        try:
            return pipeline.execute_command(*command)
        except redis.RedisError as error:
            return error

    def all_of_them() -> list[Any]:
        with connect(url, timeout_seconds=5) as client:
            client.connection_pool.connection_kwargs.update(connection)
            pipeline = Pipeline(client)
            try:
                greenlets = [gevent.spawn(one, pipeline, command) for command in commands]
                return [greenlet.get() for greenlet in greenlets]
            finally:
                pipeline.close()

    try:
        return thread.call(all_of_them)
    finally:
        thread.close()


def reads(client: redis.Redis) -> int:
    """How often the server has read from a connection."""
    return int(client.info("stats")["total_reads_processed"])


def test_what_is_asked_at_the_same_moment_goes_in_one_packet(client: redis.Redis, redis_url: str) -> None:
    asked(redis_url, ("PING",))
    one = reads_of(client, redis_url, 1)
    many = reads_of(client, redis_url, 100)
    assert many <= one + 2  # the packet of the first, and that of all the others


def reads_of(client: redis.Redis, url: str, commands: int) -> int:
    before = reads(client)
    assert asked(url, *[("ECHO", str(number)) for number in range(commands)]) == [
        str(number).encode() for number in range(commands)
    ]
    return reads(client) - before


def test_a_command_that_redis_refuses_is_one_greenlets_business(redis_url: str) -> None:
    replies = asked(redis_url, ("ECHO", "a"), ("NO-SUCH-COMMAND",), ("ECHO", "b"))
    assert (replies[0], replies[2]) == (b"a", b"b")
    assert isinstance(replies[1], ResponseError)


def test_a_redis_that_is_away_is_everybodys() -> None:
    replies = asked("redis://127.0.0.1:1/0", ("ECHO", "a"), ("ECHO", "b"))
    assert [type(reply) for reply in replies] == [redis.ConnectionError] * 2


def test_what_was_answered_before_a_packet_broke_off_stays_answered() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while (came := connection.recv(65_536)) and b"ECHO" not in came:
                    connection.sendall(b"+OK\r\n" * came.count(b"*"))
                connection.sendall(b"$1\r\na\r\n-LOADING Redis is loading the dataset in memory\r\n$1\r\nc\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        first, second, third = asked(url, ("ECHO", "a"), ("ECHO", "b"), ("ECHO", "c"), protocol=2)
        thread.join()
    assert first == b"a"
    assert isinstance(second, redis.BusyLoadingError)
    assert isinstance(third, redis.ConnectionError)
    assert not isinstance(third, redis.BusyLoadingError)  # whether it was run nobody knows


def test_a_thread_of_greenlets_gives_back_what_was_returned_and_raises_what_was_raised() -> None:
    thread = GreenThread("test")
    try:
        assert thread.call(threading.get_ident) not in {0, threading.get_ident()}
        with pytest.raises(ZeroDivisionError):
            thread.call(lambda: 1 // 0)
    finally:
        thread.close()


def test_greenlets_of_a_thread_go_on_between_two_calls() -> None:
    thread, went_on = GreenThread("test"), threading.Event()
    try:
        thread.call(lambda: gevent.spawn_later(0.001, went_on.set))
        assert went_on.wait(PATIENCE_SECONDS)
    finally:
        thread.close()


def test_a_look_up_that_hangs_does_not_hold_up_the_end_of_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer = threading.Event(), threading.Event()

    def hangs(*_: Any, **__: Any) -> Any:
        asked.set()
        answer.wait()
        return []

    monkeypatch.setattr(_socket, "getaddrinfo", hangs)
    thread = GreenThread("test")
    thread.call(lambda: gevent.spawn(gevent.socket.getaddrinfo, "tracker.example.net", 80))
    assert asked.wait(PATIENCE_SECONDS)
    closing = threading.Thread(target=thread.close)
    closing.start()
    closing.join(PATIENCE_SECONDS)
    held_up = closing.is_alive()
    answer.set()
    closing.join()
    assert not held_up


def test_a_thread_that_others_call_into_a_great_many_times_lives_on() -> None:
    """With gevent's own way of calling into a loop, its count of what is active is wrong by then."""
    thread, enough = GreenThread("test"), 6_000

    def called_into() -> bool:
        door, times, timers = Door(), [0], [0]

        def called() -> None:
            times[0] += 1

        def call() -> None:
            while min(times[0], timers[0]) < enough:
                door.call(called)

        calling = threading.Thread(target=call)
        calling.start()

        def sleep_often() -> None:
            while min(times[0], timers[0]) < enough:
                gevent.sleep(0.0002)
                timers[0] += 1

        gevent.joinall([gevent.spawn(sleep_often) for _ in range(50)])
        calling.join()
        gevent.sleep(0.01)
        door.close()
        return times[0] >= enough

    try:
        before = thread.call(lambda: gevent.get_hub().loop.activecnt)
        assert thread.call(called_into)
        assert thread.call(lambda: gevent.get_hub().loop.activecnt) == before
    finally:
        thread.close()


def test_a_crews_greenlets_do_one_job_after_the_other() -> None:
    did: dict[int, list[str]] = {}

    def do(job: str) -> None:
        gevent.sleep(0)
        did.setdefault(id(gevent.getcurrent()), []).append(job)

    crew = Crew(do)
    for round_ in ("a", "b"):
        for number in range(3):
            crew.take(f"{round_}{number}")
        for _ in range(5):
            gevent.sleep(0)
    assert sorted(job for jobs in did.values() for job in jobs) == ["a0", "a1", "a2", "b0", "b1", "b2"]
    assert [len(jobs) for jobs in did.values()] == [2, 2, 2]
