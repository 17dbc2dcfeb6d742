"""What is left of the asyncio link when calls are cancelled, loops end, processes fork and links close: nothing."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import multiprocessing
import random
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis
from async_words import GIVE_UP_SECONDS, accepted_again, eventually, refused_call
from broken_redis import APPENDED, DUPLICATE, Answer, broken_redis, handshake_then, silent
from waiting import PATIENCE_SECONDS, wait_until

from insend_relay.outbox.record import Record
from insend_relay.producers import AsyncInSend, NotAccepted
from insend_relay.producers.async_link import AsyncLink, _LoopLink
from insend_relay.producers.async_wire import Wire

Kept = Callable[[str], list[Record]]
Make = Callable[..., AsyncInSend]
PATIENT: dict[str, Any] = {"app_key": "test-app-key", "domain": "shop.example.com", "enqueue_timeout_ms": 30_000}


@pytest.fixture
def make(redis_url: str, namespace: str) -> Make:
    """Makes an AsyncInSend, patient unless told otherwise."""

    def make(**given: Any) -> AsyncInSend:
        return AsyncInSend(**{**PATIENT, "redis_url": redis_url, "namespace": namespace, **given})

    return make


@pytest.fixture(autouse=True)
def nothing_is_left_behind(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No unclosed connection (pytest turns such warnings into errors) and no word of asyncio's about a lost task."""
    yield
    gc.collect()
    assert [record.getMessage() for record in caplog.get_records("call") if record.name == "asyncio"] == []


def link_of(insend: AsyncInSend) -> _LoopLink:
    """What the running loop has of it."""
    return insend._link._loops[asyncio.get_running_loop()]


def wire_of(insend: AsyncInSend) -> Wire:
    """The running loop's connection."""
    wire = link_of(insend)._wire
    assert wire is not None
    return wire


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel a call and wait for its end."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()


# A call that is cancelled


def test_a_call_that_is_cancelled_while_it_connects_leaves_a_link_that_works(make: Make, kept: Kept) -> None:
    async def main() -> None:
        async with make() as insend:
            call = asyncio.create_task(insend.link(visitor_uid="42"))
            await asyncio.sleep(0)
            assert link_of(insend)._waiters
            await end(call)
            assert not link_of(insend)._waiters
            assert (await insend.link(visitor_uid="42")).where == "redis"

    asyncio.run(main())
    assert len(kept("v/42")) == 1


@pytest.mark.parametrize("first", ["the connection", "the end"])
def test_a_call_that_is_cancelled_the_moment_the_connection_comes_leaves_it_to_others(make: Make, first: str) -> None:
    async def main() -> None:
        async with make() as insend:
            await insend.link(visitor_uid="0")
            link, wire = link_of(insend), wire_of(insend)
            link._wire = None
            link._closed = True  # so that no other is opened meanwhile
            call = asyncio.create_task(insend.link(visitor_uid="42"))
            await eventually(lambda: link._waiters)
            if first == "the end":
                call.cancel()
            link._wire, link._closed = wire, False
            for waiter in link._waiters:
                if not waiter.done():
                    waiter.set_result(None)
            await end(call)
            assert not link._waiters
            assert (await insend.link(visitor_uid="42")).where == "redis"
            assert wire_of(insend) is wire

    asyncio.run(main())


def test_a_call_that_is_cancelled_in_mid_answer_leaves_the_connection_to_the_others(make: Make) -> None:
    half, rest = threading.Event(), threading.Event()
    served: list[Any] = []

    def by_halves(connection: Any) -> None:
        served.append(connection)
        connection.sendall(APPENDED[:10])
        half.set()
        rest.wait()
        connection.sendall(APPENDED[10:] + DUPLICATE)
        silent(connection)

    async def main(url: str) -> None:
        async with make(redis_url=url) as insend:
            call = asyncio.create_task(insend.link(visitor_uid="42"))
            await eventually(half.is_set)
            await end(call)
            following = asyncio.create_task(insend.link(visitor_uid="42"))
            await asyncio.sleep(0)
            rest.set()
            assert (await following).where == "duplicate"  # its own answer

    with broken_redis(handshake_then(by_halves)) as url:
        asyncio.run(main(url))
    assert len(served) == 1


def test_any_mixture_of_cancelled_late_and_good_calls_leaves_a_link_that_works(
    make: Make, kept: Kept, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, logger="insend_relay.producers")
    chance = random.Random(7)

    async def visit(insend: AsyncInSend, number: int) -> str:
        insend._link._timeout = chance.choice([0.0, 0.0005, 0.002, 30.0])
        async with asyncio.timeout(chance.choice([0.0, 0.0005, 0.002, None])):
            return (await insend.link(visitor_uid=number, key_page_id=number)).where

    async def main() -> None:
        async with make() as insend:
            for _ in range(5):
                ends = await asyncio.gather(*(visit(insend, number) for number in range(100)), return_exceptions=True)
                assert {type(end) for end in ends} <= {str, NotAccepted, TimeoutError}
            insend._link._timeout = 30.0
            await accepted_again(insend)  # the late ones may have told the link that Redis is away
            await asyncio.gather(*(insend.link(visitor_uid=f"good-{number}") for number in range(100)))
            assert not link_of(insend)._waiters
            assert not wire_of(insend)._answers
            assert not wire_of(insend).is_stale()

    asyncio.run(main())
    assert all(len(kept(f"v/good-{number}")) == 1 for number in range(100))
    assert all(len(kept(f"v/{number}")) <= 5 for number in range(100))
    wait_until(lambda: not any(row["name"] == "insend-relay-producer" for row in client.client_list()))


# Loops


def test_one_object_serves_one_loop_after_the_other_and_keeps_none(make: Make, kept: Kept) -> None:
    insend = make()
    loops = []

    async def visit() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await insend.link(visitor_uid="42")

    for _ in range(3):
        asyncio.run(visit())
    assert len(kept("v/42")) == 3
    assert insend._link._loops == {}
    gc.collect()
    assert [loop() for loop in loops] == [None, None, None]


def test_two_loops_in_two_threads_have_connections_of_their_own(make: Make, kept: Kept) -> None:
    insend = make()
    seen: list[Wire] = []
    both = threading.Barrier(2, timeout=GIVE_UP_SECONDS)

    async def visit(number: int) -> None:
        await insend.link(visitor_uid=number)
        both.wait()
        for _ in range(20):
            await insend.link(visitor_uid=number)
        seen.append(wire_of(insend))
        both.wait()
        await insend.aclose()

    threads = [threading.Thread(target=asyncio.run, args=(visit(number),)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(kept(f"v/{number}")) for number in (1, 2)] == [21, 21]
    assert seen[0] is not seen[1]
    assert insend._link._loops == {}


def test_a_loop_may_end_while_a_call_connects_or_is_answered(make: Make) -> None:
    async def connecting(url: str) -> None:
        insend = make(redis_url=url)
        calls.append(asyncio.create_task(insend.link(visitor_uid="42")))
        await eventually(lambda: insend._link._loops and link_of(insend)._task)

    async def being_answered(_: str) -> None:
        insend = make()
        await insend.link(visitor_uid="42")
        calls.append(asyncio.create_task(insend.link(visitor_uid="42")))
        await asyncio.sleep(0)
        assert wire_of(insend)._answers

    calls: list[asyncio.Task[Any]] = []
    with broken_redis(silent) as url:
        for case in (connecting, being_answered):
            asyncio.run(case(url))
            assert calls.pop().cancelled()


def test_an_event_of_the_last_moment_is_kept_and_leaves_nothing(make: Make, kept: Kept) -> None:
    insend, waits = make(), asyncio.Event()

    async def background() -> None:
        await insend.link(visitor_uid="42")
        waits.set()
        try:
            await asyncio.Event().wait()
        finally:  # asyncio.run cancels what is left, and so ended the link's own task
            await insend.link(visitor_uid="42")

    async def main() -> None:
        tasks.append(asyncio.create_task(background()))
        await waits.wait()

    tasks: list[asyncio.Task[Any]] = []
    asyncio.run(main())
    assert len(kept("v/42")) == 2
    assert insend._link._loops == {}


def test_a_loop_that_ends_while_redis_is_away_leaves_nothing(make: Make) -> None:
    async def main() -> None:
        await refused_call(make(redis_url="redis://127.0.0.1:1/0"))

    asyncio.run(main())


CLOSED_WITHOUT_A_WORD = """
import asyncio, gc, sys
from insend_relay.producers import AsyncInSend

insend = AsyncInSend(app_key="test-app-key", domain="shop.example.com", redis_url=sys.argv[1], namespace=sys.argv[2],
                     enqueue_timeout_ms=30_000)
for _ in range(3):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(insend.link(visitor_uid="42"))
    loop.close()
gc.collect()
print(len(insend._link._loops))
"""


def test_a_loop_that_is_closed_without_a_word_costs_no_complaint(redis_url: str, namespace: str, kept: Kept) -> None:
    command = [sys.executable, "-c", CLOSED_WITHOUT_A_WORD, redis_url, namespace]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert (done.stdout.strip(), done.stderr) == ("1", "")  # the next loop's call forgets it
    assert len(kept("v/42")) == 3


# Forks


def test_a_forked_child_has_connections_of_its_own(make: Make, kept: Kept) -> None:
    insend = make()
    fork = multiprocessing.get_context("fork")

    async def visit(page: str) -> None:
        await insend.link(visitor_uid="42", key_page_id=page)

    async def main() -> None:
        await visit("before")
        wire = wire_of(insend)
        child = fork.Process(target=lambda: asyncio.run(visit("child")))
        child.start()
        try:
            await asyncio.to_thread(child.join, GIVE_UP_SECONDS)
            assert child.exitcode == 0
        finally:
            child.kill()
            child.join()
        await visit("after")
        assert wire_of(insend) is wire  # the child has neither used nor closed it

    asyncio.run(visit("loop before"))
    asyncio.run(main())
    assert len(kept("v/42")) == 4


# aclose


def test_a_call_after_aclose_connects_anew(make: Make, kept: Kept) -> None:
    async def main() -> None:
        insend = make()
        await insend.aclose()
        async with insend:
            await insend.link(visitor_uid="42")
            wire = wire_of(insend)
            await insend.aclose()
            await insend.aclose()
            assert wire.is_stale()
            await insend.link(visitor_uid="42")
            assert wire_of(insend) is not wire

    asyncio.run(main())
    assert len(kept("v/42")) == 2


def test_aclose_waits_for_the_answers_that_others_wait_for(make: Make, kept: Kept) -> None:
    async def main() -> None:
        insend = make()
        await insend.connect()
        wire = wire_of(insend)
        answered = asyncio.create_task(insend.link(visitor_uid="42"))
        await asyncio.sleep(0)
        assert wire._answers
        await asyncio.gather(insend.aclose(), insend.aclose())
        assert (await answered).where == "redis"
        assert wire.is_stale()
        assert insend._link._loops == {}

    asyncio.run(main())
    assert len(kept("v/42")) == 1


@pytest.mark.parametrize("answer", [silent, handshake_then(silent, until=b"PING")])
def test_aclose_does_not_wait_for_a_redis_that_does_not_answer(
    make: Make, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("insend_relay.producers.address.CONNECT_SECONDS", 3600.0)
    monkeypatch.setattr("insend_relay.producers.async_address.CONNECT_SECONDS", 3600.0)

    async def main(url: str) -> None:
        for rounds in range(20):  # in each of these the task is elsewhere
            insend = make(redis_url=url)
            call = asyncio.create_task(refused_call(insend))
            for _ in range(rounds + 1):
                await asyncio.sleep(0)
            async with asyncio.timeout(GIVE_UP_SECONDS):
                await insend.aclose()
            assert "closed meanwhile" in str(await call)

    with broken_redis(answer) as url:
        asyncio.run(main(url))


def test_aclose_ends_the_connections_on_redis_side_too(make: Make, client: redis.Redis) -> None:
    async def main() -> None:
        insend = make()
        await insend.link(visitor_uid="42")
        port = wire_of(insend)._writer.get_extra_info("sockname")[1]
        await insend.aclose()
        await eventually(lambda: port not in [int(row["addr"].split(":")[1]) for row in client.client_list()])

    asyncio.run(main())


# Contexts

_visit: contextvars.ContextVar[object] = contextvars.ContextVar("visit")


class Visit:
    """What a request's context holds."""


async def request(insend: AsyncInSend) -> weakref.ref[Visit]:
    visit = Visit()
    _visit.set(visit)
    with suppress(NotAccepted):
        await insend.link(visitor_uid="42")
    return weakref.ref(visit)


@pytest.mark.parametrize("away", [False, True])
def test_the_link_does_not_keep_the_context_of_the_request_that_it_was_first_used_in(make: Make, *, away: bool) -> None:
    async def main() -> None:
        given = {"redis_url": "redis://127.0.0.1:1/0", "enqueue_timeout_ms": 250} if away else {}
        async with make(**given) as insend:
            first, second = [await asyncio.create_task(request(insend)) for _ in range(2)]
            await eventually(lambda: gc.collect() >= 0 and first() is None and second() is None)
            assert link_of(insend)._task is not None

    asyncio.run(main())


def test_an_object_that_is_never_used_needs_no_end() -> None:
    assert AsyncLink("redis://127.0.0.1:1/0", timeout_seconds=1)._loops == {}
