"""While Redis cannot take events they lie in the spool; in order, and once, they come in when it can."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hookless
import pytest
from counting import counted
from waiting import PATIENCE_SECONDS, wait_until

from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.outbox.connection import connect
from insend_relay.outbox.entry import Entry, InvalidEntry
from insend_relay.outbox.errors import SpoolError
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.record import decode, new_id
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.producers import AsyncInSend, InSend, NotAccepted, Receipt
from insend_relay.producers.slots import Slots, slots_of_processes
from insend_relay.producers.spool_write import SpoolWrite
from insend_relay.producers.spooling import Spooling
from insend_relay.spool.handles import MAX_OPEN
from insend_relay.spool.spool import Spool

APP = "test-app-key"
Call = Callable[..., Receipt]
Make = Callable[..., "Shop"]


class Shop:
    """An InSend, or an AsyncInSend with a loop of its own, called in the same way."""

    def __init__(self, *, is_async: bool, **settings: Any) -> None:
        settings = {"app_key": APP, "domain": "shop.example.com", "enqueue_timeout_ms": 60_000, **settings}
        self.insend: Any = (AsyncInSend if is_async else InSend)(**settings)
        self._loop = asyncio.new_event_loop() if is_async else None
        if self._loop is not None:
            self._thread = threading.Thread(target=self._loop.run_forever)
            self._thread.start()

    def run(self, call: Callable[[Any], Any]) -> Any:
        """Make a call."""
        if self._loop is None:
            return call(self.insend)
        return asyncio.run_coroutine_threadsafe(call(self.insend), self._loop).result(PATIENCE_SECONDS)

    def link(self, **about: Any) -> Receipt:
        receipt: Receipt = self.run(lambda insend: insend.link(**about))
        return receipt

    def close(self) -> None:
        if self._loop is None:
            self.insend.close()
        else:
            self.run(lambda insend: insend.aclose())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@pytest.fixture
def spool(path: Path, namespace: str) -> Iterator[Spool]:
    """The spool as another process sees it."""
    spool = Spool(path, namespace=namespace, most_bytes=10**8)
    yield spool
    spool.close()


@pytest.fixture(params=["threads", "asyncio"])
def make(request: pytest.FixtureRequest, namespace: str, path: Path) -> Iterator[Make]:
    """Make a shop of either kind; closed afterwards."""
    made: list[Shop] = []

    def make(redis_url: str, **settings: Any) -> Shop:
        settings = {"namespace": namespace, "spool": str(path), **settings}
        made.append(Shop(is_async=request.param == "asyncio", redis_url=redis_url, **settings))
        return made[-1]

    yield make
    for shop in made:
        shop.close()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A Redis that a test may stop and freeze."""
    with EmbeddedRedis(tmp_path / "redis", server="redis", config={"appendfsync": "always"}) as server:
        yield server  # everysec may lose what a killed one had not written yet


def ids(outbox: Outbox, lane: str = "v/42") -> list[str]:
    """The events that wait in a lane, oldest first."""
    data = outbox.read("LRANGE", outbox.keys.lane(Lane.parse(f"{APP}/{lane}")), 0, -1)
    return [decode(one).id.hex() for one in data]


def outbox_of(server: EmbeddedRedis, namespace: str) -> Outbox:
    return Outbox(connect(server.url, timeout_seconds=60), namespace=namespace)


def test_with_redis_gone_events_are_kept_and_come_in_in_order_when_it_is_back(
    make: Make, own_redis: EmbeddedRedis, spool: Spool, namespace: str
) -> None:
    shop = make(own_redis.url)
    receipts = [shop.link(visitor_uid=42)]
    own_redis.kill()
    receipts += [shop.link(visitor_uid=42) for _ in range(30)]
    assert [receipt.where for receipt in receipts] == ["redis"] + ["spool"] * 30
    assert spool.look().events == 30
    own_redis.start()
    wait_until(lambda: not spool.may_hold())
    while receipts[-1].where != "redis":  # until this process has found out as well
        receipts.append(shop.link(visitor_uid=42))
        wait_until(lambda: not spool.may_hold())  # one who sends without a pause may be faster than the flush
    outbox = outbox_of(own_redis, namespace)
    assert ids(outbox) == [receipt.id.hex for receipt in receipts]


def test_who_has_an_event_in_the_spool_is_followed_there_and_nobody_else(
    make: Make, redis_url: str, spool: Spool, outbox: Outbox
) -> None:
    shop = make(redis_url)
    first = Entry(Lane.parse(f"{APP}/v/42"), new_id(), b'{"type":"link"}')
    guest = Entry(Lane.parse(f"{APP}/g/g.1"), new_id(), b'{"type":"link"}')
    with spool.flushing():  # so that nobody moves them on
        spool.keep([(first, ""), (guest, "")], deadline=time.monotonic() + 60)
        second = shop.link(visitor_uid=42)
        assert second.where == "spool"
        assert shop.link(visitor_uid=43).where == "redis"
        login = shop.link(visitor_uid=44, guest_uid="g.1")
        assert (login.where, shop.link(guest_uid="g.2").where) == ("spool", "redis")
        assert ids(outbox) == []
    wait_until(lambda: not spool.may_hold())
    assert ids(outbox) == [first.id.hex, second.id.hex]
    assert ids(outbox, "v/44") == [login.id.hex]


def test_what_a_frozen_redis_had_taken_without_an_answer_comes_once(
    make: Make, own_redis: EmbeddedRedis, spool: Spool, namespace: str
) -> None:
    shop = make(own_redis.url)
    receipts = [shop.link(visitor_uid=42)]
    shop.insend._link._timeout = 2.0
    os.kill(own_redis.pid, signal.SIGSTOP)
    try:
        receipts += [shop.link(visitor_uid=42) for _ in range(5)]
        assert {receipt.where for receipt in receipts[1:]} == {"spool"}
        slots = [row.way.slot for row in spool.first(9)]
        assert (bool(slots[0]), slots[1:]) == (True, [""] * 4), "only of the first nobody knows how it ended"
    finally:
        os.kill(own_redis.pid, signal.SIGCONT)
    wait_until(lambda: not spool.may_hold())
    outbox = outbox_of(own_redis, namespace)
    assert ids(outbox) == [receipt.id.hex for receipt in receipts]
    assert int(outbox.read("HGET", outbox.keys.ledger, "accepted")) == 6


def test_a_bad_event_becomes_a_dead_letter_by_way_of_the_spool_too(
    make: Make, own_redis: EmbeddedRedis, spool: Spool, namespace: str
) -> None:
    shop = make(own_redis.url, invalid="bury")
    own_redis.kill()
    assert shop.run(lambda insend: insend.mailto(email="", visitor_uid=42)).where == "invalid"
    own_redis.start()
    wait_until(lambda: not spool.may_hold())
    outbox = outbox_of(own_redis, namespace)
    assert counted(outbox)["dead"] == 1


def test_what_an_earlier_process_left_comes_in_with_the_first_call(
    make: Make, redis_url: str, spool: Spool, outbox: Outbox
) -> None:
    left = Entry(Lane.parse(f"{APP}/v/42"), new_id(), b'{"type":"link"}')
    spool.keep([(left, "")], deadline=time.monotonic() + 60)
    make(redis_url).link(visitor_uid=1)
    wait_until(lambda: not spool.may_hold())
    assert ids(outbox) == [left.id.hex]


def test_without_a_spool_a_call_says_that_its_event_is_not_kept(make: Make) -> None:
    shop = make("redis://127.0.0.1:1/0", spool="")
    with pytest.raises(NotAccepted, match="cannot be reached"):
        shop.link(visitor_uid=42)


def test_when_neither_will_do_the_call_says_why_of_both(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    shop = make("redis://127.0.0.1:1/0", spool=str(tmp_path / "file" / "spool.db"))
    with pytest.raises(NotAccepted, match=r"cannot be reached.*; the spool cannot be opened: .*not kept") as raised:
        shop.link(visitor_uid=42)
    assert not raised.value.unknown


def test_a_spool_that_cannot_be_used_does_not_matter_while_redis_takes_events(
    make: Make, redis_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    shop = make(redis_url, spool=str(tmp_path / "file" / "spool.db"))
    assert {shop.link(visitor_uid=42).where for _ in range(3)} == {"redis"}
    assert caplog.text.count("the spool cannot be opened") == 1


def test_while_the_spool_is_too_busy_to_tell_an_event_may_not_overtake_an_earlier_one(path: Path, spool: Spool) -> None:
    spool.keep([(Entry(Lane(APP, "v", "42"), new_id(), b"{}"), "")], deadline=time.monotonic() + PATIENCE_SECONDS)
    other = Entry(Lane(APP, "v", "43"), new_id(), b"{}")
    spooling = Spooling(Settings(redis_url="redis://127.0.0.1:1/0", namespace=spool.namespace, spool=str(path)))
    with ExitStack() as busy:
        for _ in range(MAX_OPEN):  # all connections of this process
            busy.enter_context(spool._file._connected(math.inf))
        assert spooling.must_take(other)
    assert not spooling.must_take(other)
    spooling.close()


def test_a_disk_that_others_keep_busy_holds_no_call_up(make: Make, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("insend_relay.producers.spooling.FSYNC_SECONDS", 60.0)  # the writer may be slow to give up
    assert make("redis://127.0.0.1:1/0").link(visitor_uid=42).where == "spool"
    hasty = make("redis://127.0.0.1:1/0", enqueue_timeout_ms=250)
    with sqlite3.connect(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(NotAccepted) as raised:
            hasty.link(visitor_uid=42)
        assert not raised.value.unknown
        other.rollback()


def test_a_call_whose_turn_does_not_come_has_kept_nothing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = make("redis://127.0.0.1:1/0", enqueue_timeout_ms=50)
    monkeypatch.setattr(shop.insend._spooling, "hand_over", lambda _: None)
    with pytest.raises(NotAccepted, match="busy too long") as raised:
        shop.link(visitor_uid=42)
    assert not raised.value.unknown


def test_a_disk_that_does_not_answer_leaves_the_outcome_open(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("insend_relay.producers.spooling.FSYNC_SECONDS", 0.01)
    shop = make("redis://127.0.0.1:1/0", enqueue_timeout_ms=50)
    monkeypatch.setattr(shop.insend._spooling, "hand_over", SpoolWrite.begin)
    with pytest.raises(NotAccepted, match="does not answer") as raised:
        shop.link(visitor_uid=42)
    assert raised.value.unknown


def test_a_defect_of_the_spool_is_no_other_exception(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = make("redis://127.0.0.1:1/0")
    monkeypatch.setattr(shop.insend._spooling.spool, "keep", lambda *_, **__: 1 / 0)
    with pytest.raises(NotAccepted, match="ZeroDivisionError"):
        shop.link(visitor_uid=42)


# With threads alone


@pytest.fixture
def insend(namespace: str, path: Path) -> Iterator[InSend]:
    account: Any = {"app_key": APP, "domain": "shop.example.com", "enqueue_timeout_ms": 60_000}
    with InSend(**account, redis_url="redis://127.0.0.1:1/0", namespace=namespace, spool=str(path)) as insend:
        yield insend


def test_events_that_come_together_share_a_write_and_each_visitors_keep_their_order(
    insend: InSend, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    really = Spool.keep

    def keep(self: Spool, entries: list[tuple[Entry | InvalidEntry, str]], **how: Any) -> None:
        sizes.append(len(entries))
        really(self, entries, **how)

    monkeypatch.setattr(Spool, "keep", keep)
    receipts: dict[int, list[str]] = {number: [] for number in range(20)}

    def send(number: int) -> None:
        for _ in range(10):
            receipts[number].append(insend.link(visitor_uid=number).id.hex)

    threads = [threading.Thread(target=send, args=(number,)) for number in receipts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = spool.first(1000)
    assert (len(rows), sum(sizes)) == (200, 200)
    assert max(sizes) > 1
    for number, sent in receipts.items():
        assert [row.entry.id.hex for row in rows if row.entry and row.entry.lane == Lane(APP, "v", f"{number}")] == sent


def test_a_forked_child_spools_with_a_thread_of_its_own(insend: InSend, spool: Spool) -> None:
    insend.link(visitor_uid=1)

    def in_child() -> None:
        assert insend.link(visitor_uid=2).where == "spool"

    assert hookless.ended(hookless.fork(in_child, hooks=True)) == 0
    insend.link(visitor_uid=3)
    assert [row.entry and row.entry.lane and row.entry.lane.uid for row in spool.first(9)] == ["1", "2", "3"]


def test_after_close_nothing_runs_and_a_call_begins_anew(insend: InSend, spool: Spool) -> None:
    before = set(threading.enumerate())  # other tests may have left an InSend of their own

    def running() -> set[str]:
        return {thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("insend-")}

    insend.link(visitor_uid=1)
    assert running()
    insend.close()
    wait_until(lambda: not running())
    assert insend.link(visitor_uid=1).where == "spool"
    assert spool.look().events == 2


def test_a_spool_that_cannot_be_read_counts_as_one_that_holds_nothing(
    insend: InSend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bool:
        raise SpoolError("the spool cannot be read: torn")

    monkeypatch.setattr(Spool, "holds", broken)
    insend.link(visitor_uid=1)
    assert insend.link(visitor_uid=1).where == "spool"


def test_close_ends_although_a_call_is_still_in_line(insend: InSend, path: Path) -> None:
    insend.link(visitor_uid=1)
    with sqlite3.connect(path) as other:
        other.execute("BEGIN IMMEDIATE")  # the thread that writes has to wait
        writes = [SpoolWrite(Entry(Lane(APP, "v", "1"), new_id(), b"{}"), "", lambda: None) for _ in range(3)]
        for write in writes:
            insend._spooling.hand_over(write)
        writes[2].give_up()
        closing = threading.Thread(target=insend.close)
        closing.start()
        other.rollback()
    closing.join(PATIENCE_SECONDS)
    assert not closing.is_alive()
    assert insend.link(visitor_uid=1).where == "spool"


def test_without_a_thread_to_be_had_the_call_says_so_and_the_next_one_tries_again(
    insend: InSend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(NotAccepted, match="thread"):
            insend.link(visitor_uid=1)
    assert insend.link(visitor_uid=1).where == "spool"


# Slots


def test_as_many_slots_come_to_be_as_there_are_calls_at_once() -> None:
    slots = Slots()
    first = slots.take()
    second = slots.take()
    assert first != second
    slots.give_back(second)
    assert slots.take() == second
    slots.give_back(first)
    assert slots.take() == first


def test_a_forked_child_has_slots_of_its_own() -> None:
    processes = slots_of_processes()
    slots = processes.get()
    taken, free = slots.take(), slots.take()
    slots.give_back(free)

    def in_child() -> None:
        its = {processes.get().take(), processes.get().take()}
        slots.give_back(taken)
        assert not its & {taken, free}
        assert processes.get().take() != taken

    assert hookless.ended(hookless.fork(in_child, hooks=True)) == 0
    assert processes.get().take() == free


def test_a_call_that_knows_how_it_ended_uses_its_slot_again(redis_url: str, namespace: str, outbox: Outbox) -> None:
    account: Any = {"app_key": APP, "domain": "shop.example.com", "enqueue_timeout_ms": 60_000}
    with InSend(**account, redis_url=redis_url, namespace=namespace) as insend:
        last = [insend.link(visitor_uid=42) for _ in range(10)][-1]
    (slot,) = outbox.read("KEYS", outbox.keys.slot("*"))
    assert outbox.read("GET", slot) == last.id.bytes
