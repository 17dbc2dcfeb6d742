"""Three requests at the same time do not mix: under threads, asyncio tasks and greenlets."""

from __future__ import annotations

import asyncio
import contextvars
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest
from waiting import PATIENCE_SECONDS

from insend_relay.outbox.record import Record
from insend_relay.producers import AsyncInSend, InSend
from insend_relay.producers.request import Request, current, serving

Kept = Callable[[str], list[Record]]
VISITORS = ("anna", "boris", "clara")


def request_of(insend: InSend | AsyncInSend, name: str) -> Request:
    cookies = {"convead_guest_uid": f"guest-{name}"}
    return Request(settings=insend.settings, cookies=cookies, visitor_uid=lambda: name, path=f"/{name}")


def nothing_is_mixed(kept: Kept, events: int) -> None:
    for name in VISITORS:
        records = kept(f"v/{name}")
        assert [record.guest_uid for record in records] == [f"guest-{name}"] + [""] * (events - 1)
        sent = [json.loads(record.payload) for record in records]
        assert [event["properties"]["key_page_id"] for event in sent] == list(range(events))
        assert {event["path"] for event in sent} == {f"/{name}"}


def test_each_thread_serves_its_own_request(insend: InSend, kept: Kept) -> None:
    together = threading.Barrier(len(VISITORS), timeout=PATIENCE_SECONDS)

    def serve(name: str) -> None:
        with serving(request_of(insend, name)):
            for page in range(5):
                together.wait()
                insend.link(key_page_id=page)

    threads = [threading.Thread(target=serve, args=(name,)) for name in VISITORS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    nothing_is_mixed(kept, 5)


def test_a_thread_that_a_request_starts_serves_it_only_when_it_is_given_the_context(insend: InSend) -> None:
    found: list[Request | None] = []

    def look() -> None:
        found.append(current())

    with serving(request_of(insend, "anna")) as request:
        context = contextvars.copy_context()
        for target in (look, lambda: context.run(look)):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
    assert found == [None, request]


@pytest.mark.parametrize("kind", [InSend, AsyncInSend])
def test_each_task_serves_its_own_request(insend: InSend, kept: Kept, kind: type) -> None:
    async def serve(twin: AsyncInSend, name: str, together: asyncio.Barrier) -> None:
        with serving(request_of(insend, name)):
            for page in range(5):
                await together.wait()
                if kind is InSend:
                    insend.link(key_page_id=page)
                else:
                    await twin.link(key_page_id=page)

    async def main() -> None:
        together = asyncio.Barrier(len(VISITORS))
        async with AsyncInSend(settings=insend.settings) as twin:
            await asyncio.gather(*(serve(twin, name, together) for name in VISITORS))
        assert current() is None

    asyncio.run(main())
    nothing_is_mixed(kept, 5)


def test_what_a_request_leaves_to_a_task_or_a_thread_pool_is_still_its_own(insend: InSend, kept: Kept) -> None:
    async def serve(twin: AsyncInSend, name: str) -> list[asyncio.Task[object]]:
        with serving(request_of(insend, name)):
            await twin.link(key_page_id=0)
            await asyncio.to_thread(insend.link, key_page_id=1)
            return [asyncio.create_task(later(twin))]

    async def later(twin: AsyncInSend) -> None:
        await asyncio.sleep(0)
        await twin.link(key_page_id=2)

    async def main() -> None:
        async with AsyncInSend(settings=insend.settings) as twin:
            tasks = await asyncio.gather(*(serve(twin, name) for name in VISITORS))
            await asyncio.gather(*(task for (task,) in tasks))

    asyncio.run(main())
    nothing_is_mixed(kept, 3)


def test_a_request_that_ends_by_an_exception_or_in_another_context_is_over(insend: InSend) -> None:
    with suppress(ZeroDivisionError), serving(request_of(insend, "anna")):
        _ = 1 / 0
    assert current() is None
    block = serving(request_of(insend, "anna"))
    contextvars.copy_context().run(block.__enter__)
    block.__exit__(None, None, None)  # a framework may end a request elsewhere than it began
    assert current() is None


GREENLETS = """
import sys
from gevent import monkey
monkey.patch_all()
import gevent
from insend_relay.producers import InSend
from insend_relay.producers.request import Request, serving

with InSend(app_key="test-app-key", domain="shop.example.com", redis_url=sys.argv[1], namespace=sys.argv[2],
            enqueue_timeout_ms=30_000) as insend:
    def serve(name):
        cookies = {"convead_guest_uid": f"guest-{name}"}
        request = Request(settings=insend.settings, cookies=cookies, visitor_uid=lambda: name, path=f"/{name}")
        with serving(request):
            for page in range(5):
                insend.link(key_page_id=page)
                gevent.sleep(0)
    gevent.joinall([gevent.spawn(serve, name) for name in sys.argv[3:]], raise_error=True)
"""


def test_each_greenlet_serves_its_own_request(redis_url: str, namespace: str, kept: Kept) -> None:
    command = [sys.executable, "-c", GREENLETS, redis_url, namespace, *VISITORS]
    subprocess.run(command, check=True, timeout=PATIENCE_SECONDS)
    nothing_is_mixed(kept, 5)
