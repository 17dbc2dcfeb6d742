"""A spool's events come into the outbox in order and exactly once, whatever happened to their calls before."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lanes import ALICE, BOB, GUEST, ledger, waiting
from waiting import wait_until

from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.outbox import record
from insend_relay.outbox.connection import connect
from insend_relay.outbox.durability import Durability, Question
from insend_relay.outbox.entry import Entry, InvalidEntry, Way
from insend_relay.outbox.errors import OutboxFull, OutboxRefused, OutboxUnreachable, SpoolError
from insend_relay.outbox.facts import Facts
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.record import decode
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.spool.flush import Flusher, flush
from insend_relay.spool.spool import Spool

# SQLite itself refuses to delete, in every process, as on a disk that has no room even for that.
FULL = "CREATE TRIGGER full BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"


@pytest.fixture
def spool(tmp_path: Path, namespace: str) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool.db", namespace=namespace, most_bytes=10**8)
    yield spool
    spool.close()


def event(lane: Lane = ALICE, **more: Any) -> Entry:
    return Entry(lane, record.new_id(), b'{"type":"link"}', **more)


def keep(spool: Spool, *entries: Entry | InvalidEntry, slot: str = "", synced: bool = False) -> None:
    spool.keep([(entry, slot) for entry in entries], deadline=time.monotonic() + 60, synced=synced)


def test_everything_comes_in_in_order_and_the_spool_is_empty(spool: Spool, outbox: Outbox) -> None:
    entries = [event((ALICE, BOB)[number % 2]) for number in range(450)]
    keep(spool, *entries)
    assert flush(spool, outbox) == 450
    for lane in (ALICE, BOB):
        assert waiting(outbox, lane) == [entry.id.bytes for entry in entries if entry.lane == lane]
    assert (spool.first(1), spool.may_hold()) == ([], False)
    assert ledger(outbox, "accepted", "waiting") == [450, 450]


def test_an_event_that_breaks_the_rules_becomes_a_dead_letter(spool: Spool, outbox: Outbox) -> None:
    keep(spool, InvalidEntry("shop", record.new_id(), ALICE, "link", b"{}", "url: missing"))
    flush(spool, outbox)
    assert ledger(outbox, "accepted", "dead") == [1, 1]


def test_the_order_across_a_login_is_kept(spool: Spool, outbox: Outbox) -> None:
    keep(spool, event(GUEST), event(ALICE, guest_uid=GUEST.uid))
    flush(spool, outbox)
    (login,) = outbox.read("LRANGE", outbox.keys.lane(ALICE), 0, -1)
    assert decode(login).barrier == 2


def test_a_flush_that_was_killed_before_it_dropped_what_had_gone_doubles_nothing(spool: Spool, outbox: Outbox) -> None:
    entries = [event() for _ in range(10)]
    keep(spool, *entries)
    for row in spool.first(7):
        assert row.entry
        outbox.enter(row.entry, row.way)
    assert flush(spool, outbox) == 10
    assert waiting(outbox) == [entry.id.bytes for entry in entries]


def test_what_its_call_had_brought_in_without_hearing_so_does_not_come_twice(spool: Spool, outbox: Outbox) -> None:
    known, unheard = event(), event()
    outbox.enter(known, Way("p:1"))
    outbox.enter(unheard, Way("p:1"))
    keep(spool, unheard, slot="p:1")
    flush(spool, outbox)
    assert waiting(outbox) == [known.id.bytes, unheard.id.bytes]


@pytest.mark.parametrize("broken", [False, True])
def test_a_packet_that_was_only_late_is_refused_when_its_event_has_come_by_the_spool(
    spool: Spool, outbox: Outbox, *, broken: bool
) -> None:
    late = InvalidEntry("shop", record.new_id(), ALICE, "link", b"{}", "url: missing") if broken else event()
    outbox.enter(event(), Way("p:1"))
    keep(spool, late, slot="p:1")
    flush(spool, outbox)
    with pytest.raises(OutboxUnreachable, match="too late"):
        outbox.enter(late, Way("p:1"))
    assert ledger(outbox, "accepted") == [2]
    assert 0 < int(outbox.read("PTTL", outbox.keys.slot("p:1"))) <= 7 * 86_400_000


def test_an_idempotency_key_holds_across_the_spool(spool: Spool, outbox: Outbox) -> None:
    first, second = event(once_key="k"), event(once_key="k")
    keep(spool, first, second)
    assert flush(spool, outbox) == 2
    assert waiting(outbox) == [first.id.bytes]


def test_a_key_that_was_used_for_another_event_is_logged_as_an_error(
    spool: Spool, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    outbox.enter(event(once_key="k"))
    other = Entry(ALICE, record.new_id(), b'{"type":"link","properties":{"key_page_id":1}}', once_key="k")
    keep(spool, event(once_key="k"), other)
    assert flush(spool, outbox) == 2
    assert [str(other.id) in message for message in caplog.messages] == [True]


def test_a_redis_that_takes_no_more_leaves_the_rest_in_the_spool_in_order(spool: Spool, tmp_path: Path) -> None:
    entries = [event(facts=Facts()) for _ in range(5)]
    keep(spool, *entries)
    with EmbeddedRedis(tmp_path / "redis", server="redis") as server, connect(server.url) as client:
        outbox = Outbox(client, namespace=spool.namespace)
        for row in spool.first(2):
            assert row.entry
            outbox.enter(row.entry, row.way)
        client.config_set("maxmemory", 1)
        with pytest.raises(OutboxFull):
            flush(spool, outbox)
        assert [row.entry for row in spool.first(9)] == entries[2:], "Redis was asked for the first two, and has them"
        client.config_set("maxmemory", 0)
        assert flush(spool, outbox) == 3
        assert waiting(outbox) == [entry.id.bytes for entry in entries]


def test_a_file_that_was_copied_loses_nothing(spool: Spool, outbox: Outbox, tmp_path: Path) -> None:
    keep(spool, event())
    flush(spool, outbox)
    spool.close()
    shutil.copy(spool.path, tmp_path / "copy.db")
    copy = Spool(tmp_path / "copy.db", namespace=spool.namespace, most_bytes=10**8)
    for one in (spool, copy):
        keep(one, event(), event())
        assert flush(one, outbox) == 2
    assert ledger(outbox, "accepted") == [5]


def test_a_disk_that_is_too_full_even_to_drop_holds_nobody_up(
    spool: Spool, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise SpoolError("the spool cannot be written: database or disk is full")

    keep(spool, *(event() for _ in range(450)))
    monkeypatch.setattr(spool._file, "transaction", full)
    with pytest.raises(SpoolError, match="full"):
        flush(spool, outbox)
    assert ledger(outbox, "accepted") == [450]
    assert not spool.holds([str(ALICE)])
    monkeypatch.undo()
    assert flush(spool, outbox) == 0
    assert spool.look().events == 450, "dropped with the next that come"
    keep(spool, event())
    assert (flush(spool, outbox), spool.look().events) == (1, 0)


def test_and_a_flush_does_not_go_further_than_redis_remembers(
    spool: Spool, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise SpoolError("the spool cannot be written: database or disk is full")

    keep(spool, *(event() for _ in range(1_000)))
    monkeypatch.setattr(spool._file, "transaction", full)
    with pytest.raises(SpoolError, match="full"):
        flush(spool, outbox)
    assert ledger(outbox, "accepted") == [600]
    monkeypatch.undo()
    spool._file.after = 0  # as in another process
    assert flush(spool, outbox) == 1_000
    assert ledger(outbox, "accepted") == [1_000]


@pytest.mark.parametrize("at_once", [70, 1_300])
def test_nor_do_many_flushes_together_so_a_new_process_doubles_nothing(
    spool: Spool, outbox: Outbox, at_once: int
) -> None:
    entries = [event() for _ in range(1_300)]
    keep(spool, *entries)
    with spool._file.transaction(time.monotonic() + 60) as connection:
        connection.execute(FULL)
    for _ in range(20):
        left = itertools.chain(itertools.repeat(False, at_once), itertools.repeat(True))
        with contextlib.suppress(SpoolError):
            flush(spool, outbox, stop=left.__next__)
    moved = ledger(outbox, "accepted")
    with spool._file.transaction(time.monotonic() + 60) as connection:
        connection.execute("DROP TRIGGER full")
    spool._file.after = 0  # as in another process
    assert flush(spool, outbox) == 1_300
    assert (moved, ledger(outbox, "accepted")) == ([600], [1_300])
    assert waiting(outbox) == [entry.id.bytes for entry in entries]
    assert spool.look().events == 0


def test_rows_far_apart_in_the_file_are_moved_all_the_same(spool: Spool, outbox: Outbox) -> None:
    keep(spool, *(event() for _ in range(1_300)))
    spool.remove(
        [row.row for row in spool.first(1_300) if row.row not in {1, 2, 700, 1_300}], deadline=time.monotonic() + 60
    )
    assert (flush(spool, outbox), spool.look().events) == (4, 0)
    assert ledger(outbox, "accepted") == [4]


def test_what_is_on_this_disk_leaves_it_when_it_is_on_redis_s(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invalid = InvalidEntry("shop", record.new_id(), ALICE, "link", b"{}", "url: missing")
    keep(spool, event(), event(), invalid, synced=True)
    with EmbeddedRedis(tmp_path / "valkey", server="valkey", config={"appendfsync": "no"}) as server:
        outbox = Outbox(connect(server.url))
        with monkeypatch.context() as patch:
            patch.setattr("insend_relay.spool.flush.FSYNC_MS", 1)
            with pytest.raises(OutboxUnreachable, match="stay here too: Redis does not sync its file in time"):
                flush(spool, outbox)  # whatever its own durability is
        assert (ledger(outbox, "accepted"), spool.look().events) == ([3], 3)
        outbox.read("CONFIG", "SET", "appendfsync", "always")
        assert flush(spool, outbox) == 3
        assert (ledger(outbox, "accepted"), spool.look().events) == ([3], 0)
        outbox.redis.close()  # type: ignore[attr-defined]  # it is a client of redis-py


def test_a_redis_that_could_never_confirm_them_takes_none(spool: Spool, outbox: Outbox) -> None:
    keep(spool, event(), synced=True)
    with pytest.raises(OutboxRefused, match="INSEND_DURABILITY=fsync needs WAITAOF"):
        flush(spool, outbox)
    assert (ledger(outbox, "accepted"), spool.look().events) == ([0], 1)


def test_what_was_moved_before_redis_refused_one_stays_until_it_is_confirmed(
    spool: Spool, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(spool, *(event() for _ in range(4)))
    taken_in, entered = Outbox.enter, iter(range(9))

    def enter(self: Outbox, *args: Any) -> Any:
        if next(entered) == 2:
            raise OutboxUnreachable("gone")
        return taken_in(self, *args)

    monkeypatch.setattr(Outbox, "enter", enter)
    with pytest.raises(OutboxUnreachable, match="gone"):
        flush(spool, outbox, durability="replicated")
    assert (ledger(outbox, "accepted"), spool.look().events) == ([2], 4)
    assert flush(spool, outbox, durability="replicated") == 4
    assert (ledger(outbox, "accepted"), spool.look().events) == ([4], 0)


def test_a_replica_that_is_gone_holds_nothing_back(
    spool: Spool, outbox: Outbox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("insend_relay.spool.flush.REPLICA_MS", 1)
    keep(spool, *(event() for _ in range(450)))
    assert flush(spool, outbox, durability="replicated") == 450
    assert spool.look().events == 0
    assert ["no replica has them in time" in line for line in caplog.messages] == [True]


@pytest.mark.parametrize("durability", ["fsync", "replicated"])
def test_what_a_redis_has_lost_meanwhile_is_moved_again(
    durability: Durability, spool: Spool, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("ECHO", "no question, for this server may know none:")
    monkeypatch.setattr(Question, "command", lambda *_: words)
    monkeypatch.setattr(Question, "holds", lambda _, said: said == words[1].encode())
    monkeypatch.setattr("insend_relay.spool.flush._Confirming.prepare", lambda *_: None)
    rows = iter(range(9))

    def lost_behind_the_second() -> bool:
        if next(rows) == 3:
            outbox.read("DEL", *outbox.read("KEYS", f"{outbox.keys.prefix}*"))
        return False

    entries = [event() for _ in range(4)]
    keep(spool, *entries, synced=durability == "fsync")
    with pytest.raises(OutboxUnreachable, match="lost what the spool had moved there"):
        flush(spool, outbox, stop=lost_behind_the_second, durability=durability)
    assert spool.look().events == 4
    assert flush(spool, outbox, durability=durability) == 4
    assert spool.look().events == 0
    assert sorted(waiting(outbox)) == sorted(entry.id.bytes for entry in entries)


def test_a_redis_that_takes_no_writes_confirms_nothing(
    spool: Spool, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(spool, event())
    taken_in = Outbox.enter

    def enter_and_fill(self: Outbox, *args: Any) -> Any:
        taken = taken_in(self, *args)
        self.read("SET", self.keys.ledger, "not a hash any more")
        return taken

    monkeypatch.setattr(Outbox, "enter", enter_and_fill)
    with pytest.raises(OutboxRefused, match="WRONGTYPE"):
        flush(spool, outbox, durability="replicated")
    assert spool.look().events == 1


def test_what_had_come_in_before_is_confirmed_with_the_rest(spool: Spool, outbox: Outbox) -> None:
    unheard, again = event(), event(once_key="order-1")
    outbox.enter(event(once_key="order-1"))
    outbox.enter(unheard, Way("p:1"))
    keep(spool, unheard, slot="p:1")
    keep(spool, again)
    assert flush(spool, outbox, durability="replicated") == 2
    assert ledger(outbox, "accepted") == [2]


def test_it_stops_when_it_is_told_to(spool: Spool, outbox: Outbox) -> None:
    keep(spool, event(), event())
    assert flush(spool, outbox, stop=iter([False, False, True, True]).__next__) == 1
    assert len(spool.first(9)) == 1


@pytest.fixture
def flusher(redis_url: str, namespace: str, spool: Spool) -> Iterator[Callable[..., Flusher]]:
    made: list[Flusher] = []

    def make(url: str = redis_url, *, for_ever: bool = False) -> Flusher:
        made.append(Flusher(Settings(redis_url=url, namespace=namespace), spool, for_ever=for_ever))
        return made[-1]

    yield make
    for one in made:
        one.close()


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "insend-flush"]


def test_the_thread_ends_when_the_spool_is_empty_and_comes_again(
    spool: Spool, outbox: Outbox, flusher: Callable[..., Flusher]
) -> None:
    mover = flusher()
    for _ in range(3):
        keep(spool, event())
        mover.wake()
        wait_until(lambda: not spool.may_hold())
        wait_until(lambda: not threads())
    assert ledger(outbox, "accepted") == [3]


def test_it_goes_on_when_somebody_else_has_stopped_moving_it_on(
    spool: Spool, outbox: Outbox, flusher: Callable[..., Flusher]
) -> None:
    keep(spool, event())
    with spool.flushing():
        flusher().wake()
        assert threads()
    wait_until(lambda: not spool.may_hold())
    assert ledger(outbox, "accepted") == [1]


def test_it_waits_for_a_redis_that_is_away(
    spool: Spool, flusher: Callable[..., Flusher], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = EmbeddedRedis(tmp_path / "redis", server="redis").start()
    server.stop()
    keep(spool, event())
    flusher(server.url).wake()
    wait_until(lambda: "waits" in caplog.text)
    server.start()
    try:
        wait_until(lambda: not spool.may_hold())
    finally:
        server.stop()


def test_a_workers_looks_for_ever_at_what_others_put_in(
    spool: Spool, outbox: Outbox, flusher: Callable[..., Flusher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("insend_relay.spool.flush.LOOK_SECONDS", 0.01)
    flusher(for_ever=True).wake()
    other = Spool(spool.path, namespace=spool.namespace, most_bytes=10**8)
    for number in range(1, 3):
        keep(other, event())
        wait_until(lambda: not other.may_hold())
        assert ledger(outbox, "accepted") == [number]


def test_a_spool_that_cannot_be_used_ends_a_producers_thread_and_not_a_workers(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    hopeless = Spool(tmp_path / "file" / "spool.db", namespace=namespace, most_bytes=10**8)
    with pytest.raises(SpoolError):
        hopeless.may_hold()
    Flusher(Settings(redis_url=redis_url), hopeless).wake()
    wait_until(lambda: not threads())
    worker = Flusher(Settings(redis_url=redis_url), hopeless, for_ever=True)
    worker.wake()
    assert threads()
    worker.close()
    assert not threads()
