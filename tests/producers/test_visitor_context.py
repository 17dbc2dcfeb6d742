"""``with insend.visitor(...)``: right under threads, asyncio and gevent."""

from __future__ import annotations

import asyncio
import contextvars
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from waiting import PATIENCE_SECONDS

from insend_relay.outbox.record import Record
from insend_relay.producers import InSend
from insend_relay.producers.visitor import Visitor

Kept = Callable[[str], list[Record]]


def data(kept: Kept, lane: str) -> dict[str, Any]:
    (record,) = kept(lane)
    return dict(json.loads(record.payload))


def test_calls_inside_are_about_the_visitor_and_the_page(insend: InSend, kept: Kept) -> None:
    page = {"url": "https://shop.example.com/a", "path": "/a", "title": "A", "referrer": "https://example.net/"}
    with insend.visitor(guest_uid="g", **page):
        insend.link()
    assert data(kept, "g/g").items() >= page.items()
    assert insend.link().where == "no_visitor"


def test_a_calls_own_arguments_go_first(insend: InSend, kept: Kept) -> None:
    with insend.visitor(guest_uid="g", url="https://shop.example.com/a", title="A"):
        insend.link(guest_uid="h", title="B")
    found = data(kept, "g/h")
    assert (found["url"], found["title"]) == ("https://shop.example.com/a", "B")


def test_naming_one_uid_hides_the_other_so_that_nobody_is_merged_by_accident(insend: InSend, kept: Kept) -> None:
    with insend.visitor(guest_uid="g"):
        insend.link(visitor_uid="42")
    assert "guest_uid" not in data(kept, "v/42")


def test_an_inner_visitor_adds_to_the_outer_and_ends_with_its_block(insend: InSend, kept: Kept) -> None:
    with insend.visitor(guest_uid="g", url="https://shop.example.com/a"):
        with insend.visitor(visitor_uid="42", guest_uid="g"):
            insend.link()
        insend.link()
    assert data(kept, "v/42")["url"] == "https://shop.example.com/a"
    assert len(kept("g/g")) == 1


def test_an_empty_string_hides_what_the_outer_block_said(insend: InSend) -> None:
    with insend.visitor(visitor_uid="42"):
        assert insend.link(visitor_uid="").where == "no_visitor"


def test_the_block_ends_when_it_raises_and_even_in_another_context(insend: InSend) -> None:
    block = insend.visitor(visitor_uid="42")
    block.__enter__()
    contextvars.copy_context().run(block.__exit__, None, None, None)
    with suppress(ZeroDivisionError), insend.visitor(visitor_uid="43"):
        _ = 1 / 0
    assert insend._visitor.get().here().visitor_uid == "42"


def test_two_insends_do_not_share_their_visitors(insend: InSend) -> None:
    with (
        InSend(settings=insend.settings, app_key="other") as other,
        insend.visitor(visitor_uid="42"),
    ):
        assert other.link().where == "no_visitor"


def test_each_thread_has_its_own(insend: InSend, kept: Kept) -> None:
    both = threading.Barrier(2, timeout=PATIENCE_SECONDS)

    def work(number: int) -> None:
        with insend.visitor(visitor_uid=number):
            both.wait()
            insend.link(key_page_id=number)
            both.wait()

    threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [data(kept, f"v/{number}")["properties"]["key_page_id"] for number in (1, 2)] == [1, 2]


def test_each_asyncio_task_has_its_own(insend: InSend, kept: Kept) -> None:
    async def work(number: int, both: asyncio.Barrier) -> None:
        with insend.visitor(visitor_uid=number):
            await both.wait()
            insend.link(key_page_id=number)
            await both.wait()

    async def main() -> None:
        both = asyncio.Barrier(2)
        await asyncio.gather(work(1, both), work(2, both))

    asyncio.run(main())
    assert [data(kept, f"v/{number}")["properties"]["key_page_id"] for number in (1, 2)] == [1, 2]


GREENLETS = """
import sys
from gevent import monkey
monkey.patch_all()
import gevent
from insend_relay.producers import InSend

with InSend(app_key="test-app-key", domain="shop.example.com", redis_url=sys.argv[1], namespace=sys.argv[2],
            enqueue_timeout_ms=60000) as insend:
    def work(number):
        with insend.visitor(visitor_uid=number):
            for page in range(5):
                insend.link(key_page_id=page, title=str(number))
                gevent.sleep(0)
    gevent.joinall([gevent.spawn(work, number) for number in range(60)], raise_error=True)
    assert len(insend._link._pools.get()._open) <= 32
"""


def test_each_greenlet_has_its_own(redis_url: str, namespace: str, kept: Kept) -> None:
    subprocess.run([sys.executable, "-c", GREENLETS, redis_url, namespace], check=True, timeout=PATIENCE_SECONDS)
    for number in range(60):
        found = [json.loads(record.payload) for record in kept(f"v/{number}")]
        assert [event["properties"]["key_page_id"] for event in found] == [0, 1, 2, 3, 4]
        assert {event["title"] for event in found} == {str(number)}


def test_a_visitor_does_not_show_who_it_is() -> None:
    shown = repr(Visitor(visitor_uid="anna", title="Anna's page"))
    assert shown.startswith("Visitor(visitor_uid=<str[4]>, ")
    assert "title=<str[11]>" in shown
