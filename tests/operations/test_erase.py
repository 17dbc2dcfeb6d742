"""One person is erased from Redis and from spools: nothing is left, nothing comes back, and the books balance."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from attempts import retry
from lanes import (
    ALICE,
    BOB,
    GUEST,
    LEASE_MS,
    OTHER,
    books,
    bury,
    claim,
    come_due,
    letter,
    put,
    replay,
    tombstone,
    waiting,
)
from waiting import wait_until

from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.operations.audit import audit
from insend_relay.operations.dead import DeadLetters, Filter
from insend_relay.operations.erase import Erasure, Report
from insend_relay.operations.erase_survey import survey
from insend_relay.operations.replay import Replay
from insend_relay.outbox import record
from insend_relay.outbox.claim import Claim
from insend_relay.outbox.connection import connect
from insend_relay.outbox.entry import Entry, InvalidEntry, Way
from insend_relay.outbox.errors import NotFound, OutboxUnreachable, SpoolError
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.letter import letter_meta
from insend_relay.outbox.person import Kind, Person
from insend_relay.outbox.store import Outbox
from insend_relay.outbox.trying import Tried
from insend_relay.spool.erase import SpoolErasure
from insend_relay.spool.flush import flush
from insend_relay.spool.spool import Spool

PHONE = Lane("shop", "g", "phone-77")
NAMES = (b"alice", b"guest-1", b"phone-77")

# Every key of the namespace with its content, uncompressed.
_CONTENT = """
local reads = {
  string = function(key) return {redis.call('GET', key)} end,
  set = function(key) return redis.call('SMEMBERS', key) end,
  list = function(key) return redis.call('LRANGE', key, 0, -1) end,
  hash = function(key) return redis.call('HGETALL', key) end,
  set = function(key) return redis.call('SMEMBERS', key) end,
  zset = function(key) return redis.call('ZRANGE', key, 0, -1) end,
}
local reply = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  reply[#reply + 1] = key
  for _, value in ipairs(reads[redis.call('TYPE', key)['ok']](key)) do
    reply[#reply + 1] = value
  end
end
return reply
"""


def content(outbox: Outbox) -> bytes:
    """All names and values of the namespace."""
    return b"\n".join(outbox.read("EVAL", _CONTENT, 0, outbox.keys.prefix))


def bytes_of(path: Path) -> bytes:
    """All files of a spool."""
    return b"".join(file.read_bytes() for file in sorted(path.parent.glob(f"{path.name}*")))


def later() -> float:
    return time.monotonic() + 60


@pytest.fixture
def spool(tmp_path: Path, namespace: str) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool.db", namespace=namespace, most_bytes=10**8)
    yield spool
    spool.close()


@pytest.fixture
def elsewhere(tmp_path: Path, namespace: str) -> Iterator[Spool]:
    """The spool of another machine."""
    spool = Spool(tmp_path / "elsewhere.db", namespace=namespace, most_bytes=10**8)
    yield spool
    spool.close()


def event(lane: Lane = ALICE, type: str = "link", **more: Any) -> Entry:
    payload = b'{"type":"%b","%b":"%b"}' % (type.encode(), f"{lane.kind}_uid".encode(), lane.uid.encode())
    return Entry(lane, record.new_id(), payload, **more)


def invalid(lane: Lane | None = None, payload: bytes = b"{}") -> InvalidEntry:
    return InvalidEntry("shop", record.new_id(), lane, "link", payload, "url: missing")


def keep(spool: Spool, *entries: Entry | InvalidEntry, slot: str = "") -> None:
    spool.keep([(entry, slot) for entry in entries], deadline=later())


def claim_of(outbox: Outbox, lane: Lane) -> Claim:
    """Claim one lane of those that are due."""
    claims = {one.lane: one for one in claim(outbox)}
    for name in claims.keys() - {str(lane)}:
        outbox.release(claims[name])
    return claims[str(lane)]


def erase(
    outbox: Outbox, uid: str = "alice", spool: Spool | None = None, *, app: str | None = None, wait: float = 60
) -> Report:
    """Survey and run."""
    rows = SpoolErasure(spool, outbox) if spool else None
    return Erasure(outbox, rows).run(survey(outbox, rows, uid, app).person, wait_seconds=wait)


def places(report: Report) -> Counter[str]:
    return Counter(one.place for one in report.events)


@contextmanager
def erasing(outbox: Outbox, url: str) -> Iterator[Erasure]:
    """An erasure of alice that runs until an event is no longer being sent."""
    with connect(url, timeout_seconds=60) as client:
        own = Outbox(client, namespace=outbox.keys.namespace)
        erasure, person = Erasure(own, None), survey(own, None, "alice").person
        thread = threading.Thread(target=erasure.run, args=(person,), kwargs={"wait_seconds": 60})
        thread.start()
        try:
            yield erasure
        finally:
            thread.join(120)
    assert not thread.is_alive()


def test_nothing_of_a_person_is_left_or_comes_back_and_the_books_balance(
    outbox: Outbox, redis_url: str, spool: Spool, elsewhere: Spool
) -> None:
    letter(outbox, OTHER)
    put(outbox, GUEST)
    put(outbox, PHONE)
    put(outbox, BOB)
    for lane in (ALICE, ALICE, OTHER):
        put(outbox, lane, b'{"type":"purchase"}', idempotency_key="order-7")
    put(outbox, ALICE, guest_uid=GUEST.uid)
    outbox.bury_invalid("shop", record.new_id(), lane=None, type="?", payload=b'{"visitor_uid":"alice"}', faults="x")
    outbox.bury_invalid("shop", record.new_id(), lane=None, type="?", payload=b'{"guest_uid":"guest-1"}', faults="x")
    outbox.bury_invalid("shop", record.new_id(), lane=ALICE, type="?", payload=b'{"guest_uid":"phone-77"}', faults="x")
    held = claim_of(outbox, ALICE)
    run = Replay.start(outbox, Filter(visitor="alice"))
    local, remote, late = event(GUEST), event(GUEST), event()
    keep(spool, event(), local, invalid(payload=b'{"visitor_uid":"alice"}'), event(BOB))
    keep(spool, late, slot="p:1")
    keep(elsewhere, event(), remote, event(ALICE, guest_uid="phone-77"), event(BOB))
    keep(elsewhere, invalid(ALICE), invalid(payload=b'{"visitor_uid":"alice"}'))

    rows = SpoolErasure(spool, outbox)
    person = survey(outbox, rows, "alice").person
    assert person.found == {GUEST, PHONE}
    with connect(redis_url, timeout_seconds=60) as client:
        erasure = Erasure(Outbox(client, namespace=outbox.keys.namespace), rows)
        thread = threading.Thread(target=erasure.run, args=(person,), kwargs={"wait_seconds": 60})
        thread.start()
        wait_until(lambda: str(ALICE) in map(str, erasure.report.sending))
        retry(outbox, held, Tried(held.id, 1, outcome="unknown"), delay_ms=1_000, duplicate=True)
        thread.join(120)
        assert not thread.is_alive()
    report = erasure.report
    assert report.complete
    assert places(report) == {"waiting": 5, "dead": 4, "spooled": 4}
    assert report.possibly_sent() == [uuid.UUID(bytes=held.id)]
    assert flush(elsewhere, outbox) == 1, "bob's"
    assert flush(spool, outbox) == 1, "bob's"
    with pytest.raises(OutboxUnreachable, match="too late"):
        outbox.enter(late, Way("p:1"))
    with pytest.raises(NotFound):
        Replay.resume(outbox, run.id)
    found = content(outbox)
    assert [name for name in NAMES if name in found] == []
    assert [name for name in NAMES if name in bytes_of(spool.path)] == []
    erase(outbox, "alice", elsewhere)
    assert [name for name in NAMES if name in bytes_of(elsewhere.path)] == []
    assert books(outbox) == {"accepted": 17, "delivered": 0, "waiting": 3, "dead": 0, "discarded": 14}
    assert len(waiting(outbox, BOB)) == 3
    assert audit(outbox).balanced
    again = erase(outbox, "alice", spool)
    assert (again.events, again.complete) == ([], True)


@pytest.mark.parametrize(
    ("end", "counts", "possibly_sent"),
    [
        (lambda outbox, held: outbox.settle(held, lease_ms=LEASE_MS), (1, 2), True),
        (lambda outbox, held: retry(outbox, held, delay_ms=9), (0, 3), False),
        (lambda outbox, held: retry(outbox, held, delay_ms=9, duplicate=True), (0, 3), True),
        (lambda outbox, held: outbox.release(held), (0, 3), False),
        (bury, (0, 3), False),
        (lambda outbox, held: come_due(outbox), (0, 3), True),  # noqa: ARG005 - its worker has died
    ],
)
def test_an_event_that_is_being_sent_is_waited_for_however_that_ends(
    outbox: Outbox,
    redis_url: str,
    end: Callable[[Outbox, Claim], object],
    counts: tuple[int, int],
    *,
    possibly_sent: bool,
) -> None:
    for _ in range(3):
        put(outbox)
    (held,) = claim(outbox)
    with erasing(outbox, redis_url) as erasure:
        wait_until(lambda: erasure.report.sending and books(outbox)["waiting"] == 1)
        end(outbox, held)
    found = books(outbox)
    assert (found["delivered"], found["discarded"], found["waiting"], found["dead"]) == (*counts, 0, 0)
    assert (uuid.UUID(bytes=held.id) in erasure.report.possibly_sent()) == possibly_sent
    assert erasure.report.complete
    assert audit(outbox).balanced


def test_an_event_that_is_sent_for_too_long_is_left_and_erased_by_the_next_run(outbox: Outbox) -> None:
    put(outbox)
    put(outbox)
    (held,) = outbox.claim("celery@host", 9, lease_ms=LEASE_MS)
    report = erase(outbox, wait=0)
    assert (report.complete, report.sending, len(report.events)) == (False, {ALICE: "celery@host"}, 1)
    assert report.possibly_sent() == [uuid.UUID(bytes=held.id)]
    outbox.release(held)
    assert places(erase(outbox)) == {"waiting": 1}
    assert audit(outbox).balanced


def test_a_long_lane_is_erased_while_workers_claim_and_deliver_from_it(outbox: Outbox, redis_url: str) -> None:
    ids = {put(outbox, ALICE, b'{"type":"link"}') for _ in range(2_000)}
    done = threading.Event()
    delivered: list[bytes] = []

    def work() -> None:
        with connect(redis_url, timeout_seconds=60) as client:
            own = Outbox(client, namespace=outbox.keys.namespace)
            while not done.is_set():
                for one in own.claim("worker-1", 10, lease_ms=LEASE_MS):
                    held: Claim | None = one
                    while held:
                        delivered.append(held.id)
                        held = own.settle(held, lease_ms=LEASE_MS)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        report = erase(outbox)
    finally:
        done.set()
        worker.join(60)
    erased = [one.id.bytes for one in report.events]
    assert report.complete
    assert sorted(erased + delivered) == sorted(ids), "each of them once"
    assert books(outbox)["delivered"] == len(delivered)
    assert audit(outbox).balanced


class Interrupting:
    """A client that is interrupted when it has run so many commands."""

    def __init__(self, client: Any, commands: int) -> None:
        self._client = client
        self._left = commands

    def execute_command(self, *command: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt
        return self._client.execute_command(*command)


def test_what_was_interrupted_is_gone_on_with_and_the_links_to_guests_go_last(outbox: Outbox) -> None:
    letter(outbox, PHONE)
    put(outbox, GUEST)
    put(outbox, ALICE, guest_uid=GUEST.uid)
    outbox.bury_invalid("shop", record.new_id(), lane=ALICE, type="?", payload=b'{"guest_uid":"phone-77"}', faults="x")
    for commands in range(100):
        person = survey(outbox, None, "alice").person
        try:
            Erasure(outbox.through(Interrupting(outbox.redis, commands)), None).run(person, wait_seconds=60)
        except KeyboardInterrupt:
            assert audit(outbox).balanced
        else:
            break
    assert commands > 10, "it was interrupted at each command of an erasure"
    assert not any(name in content(outbox) for name in NAMES)
    assert books(outbox)["discarded"] == 4


def test_a_guest_leads_to_the_visitor_that_it_became(outbox: Outbox) -> None:
    letter(outbox, BOB)
    for _ in range(600):
        put(outbox)
    put(outbox, ALICE, guest_uid=GUEST.uid)
    put(outbox, PHONE)
    put(outbox, ALICE, guest_uid=PHONE.uid)
    assert places(erase(outbox, GUEST.uid)) == {"waiting": 603}
    assert not any(name in content(outbox) for name in NAMES)
    assert books(outbox)["dead"] == 1


def test_a_customer_who_shares_the_browser_keeps_everything(outbox: Outbox) -> None:
    put(outbox, GUEST)
    put(outbox, ALICE, guest_uid=GUEST.uid)
    kept = put(outbox, BOB, guest_uid=GUEST.uid)
    found = survey(outbox, None, "alice")
    assert found.person.shared == {BOB}
    erase(outbox)
    assert waiting(outbox, BOB) == [kept]
    assert books(outbox)["discarded"] == 2
    assert audit(outbox).balanced


def test_one_app_may_be_meant_and_the_same_uid_stays_in_the_others(outbox: Outbox, elsewhere: Spool) -> None:
    put(outbox, ALICE)
    put(outbox, OTHER)
    keep(elsewhere, event(ALICE), event(OTHER))
    assert places(erase(outbox, app="shop")) == {"waiting": 1}
    assert flush(elsewhere, outbox) == 1
    assert (waiting(outbox, ALICE), len(waiting(outbox, OTHER))) == ([], 2)


def test_a_letter_whose_outcome_is_unknown_may_have_been_sent(outbox: Outbox) -> None:
    put(outbox)
    (held,) = claim(outbox)
    meta = letter_meta(outcome="unknown")
    outbox.bury(held, type="purchase", reason="unknown", meta=meta, lease_ms=0)
    assert erase(outbox).possibly_sent() == [uuid.UUID(bytes=held.id)]
    assert DeadLetters(outbox).count() == 0


def test_a_survey_changes_nothing_and_counts_by_lane_and_place(outbox: Outbox, spool: Spool) -> None:
    letter(outbox, GUEST)
    put(outbox)
    put(outbox)
    keep(spool, event(ALICE, guest_uid=GUEST.uid), event(BOB))
    before = content(outbox)
    found = survey(outbox, SpoolErasure(spool, outbox), "alice")
    assert found.counts == {ALICE: {"waiting": 2, "spooled": 1}, GUEST: {"dead": 1}}
    assert (content(outbox), spool.look().events) == (before, 2)


def test_a_full_redis_is_erased_from_and_takes_the_tombstones(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis", server="redis") as server, connect(server.url) as client:
        outbox = Outbox(client)
        letter(outbox, ALICE)
        for lane in (ALICE, GUEST, BOB):
            put(outbox, lane, guest_uid=GUEST.uid if lane is ALICE else "")
        spool = Spool(tmp_path / "spool.db", namespace="insend", most_bytes=10**8)
        keep(spool, event(), slot="p:1")
        client.config_set("maxmemory", 1)
        report = erase(outbox, spool=spool)
        assert (places(report), report.complete) == ({"waiting": 2, "dead": 1, "spooled": 1}, True)
        client.config_set("maxmemory", 0)
        assert outbox.read("EXISTS", tombstone(outbox, "/v/alice"), outbox.keys.slot("p:1")) == 2
        assert audit(outbox).balanced
        spool.close()


def test_a_redis_that_goes_away_leaves_what_was_done_and_the_rest_for_the_next_run(
    outbox: Outbox, spool: Spool, tmp_path: Path
) -> None:
    with EmbeddedRedis(tmp_path / "redis", server="redis") as server, connect(server.url) as client:
        there = Outbox(client, namespace=spool.namespace)
        keep(spool, event())
        person = survey(there, None, "alice").person
        server.stop()
        with pytest.raises(OutboxUnreachable):
            Erasure(there, SpoolErasure(spool, there)).run(person, wait_seconds=60)
        assert spool.look().events == 1
    assert places(erase(outbox, spool=spool)) == {"spooled": 1}


def test_a_row_whose_call_had_brought_it_in_is_erased_in_its_lane(outbox: Outbox, spool: Spool) -> None:
    both = event()
    outbox.enter(both, Way("p:1"))
    keep(spool, both, slot="p:1")
    assert places(erase(outbox, spool=spool)) == {"waiting": 1}
    assert books(outbox) == {"accepted": 1, "delivered": 0, "waiting": 0, "dead": 0, "discarded": 1}
    assert spool.look().events == 0


def test_many_rows_leave_what_a_killed_flush_had_moved_on_known(outbox: Outbox, spool: Spool) -> None:
    moved = [event(BOB) for _ in range(200)]
    keep(spool, *moved)
    for kept in spool.first(200):
        assert kept.entry
        outbox.enter(kept.entry, kept.way)
    keep(spool, *(event() for _ in range(2_000)), slot="p:1")
    assert places(erase(outbox, spool=spool)) == {"spooled": 2_000}
    flush(spool, outbox)
    assert waiting(outbox, BOB) == [one.id.bytes for one in moved], "each once"


def test_rows_that_cannot_be_read_and_mention_the_uid_are_deleted(outbox: Outbox, spool: Spool) -> None:
    keep(spool, event(), event(BOB), event(BOB))
    with spool._file.transaction(later()) as connection:
        connection.execute("UPDATE events SET header = x'00' WHERE row < 3")
    found = survey(outbox, SpoolErasure(spool, outbox), "alice")
    assert found.unreadable == 0, "they are put aside first"
    report = erase(outbox, spool=spool)
    assert (report.events, report.unreadable) == ([], 1)
    assert (spool.look().events, spool.look().unreadable) == (1, 1)
    assert b"alice" not in bytes_of(spool.path)


def test_rows_that_cannot_be_read_and_name_another_person_stay_whatever_numbers_they_hold(
    outbox: Outbox, spool: Spool
) -> None:
    in_cart = Entry(BOB, record.new_id(), b'{"visitor_uid":"bob","properties":{"qnt":1,"price":86400}}')
    keep(spool, in_cart, event(GUEST), event(Lane("shop", "v", "1")), event(ALICE, guest_uid=GUEST.uid))
    with spool._file.transaction(later()) as connection:
        connection.execute("UPDATE events SET header = x'00' WHERE row < 4")
        connection.execute("UPDATE events SET lane = 'torn', payload = substr(payload, 3) WHERE row = 3")
    assert erase(outbox, "86400", spool).unreadable == 0, "a price, and what each row says of idempotency"
    assert erase(outbox, "1", spool).unreadable == 1, "its own, by what is left of the payload"
    assert erase(outbox, "alice", spool).unreadable == 1, "her guest's"
    assert (spool.look().events, spool.look().unreadable) == (0, 1)


def test_no_byte_is_left_of_rows_whose_pages_were_rearranged(outbox: Outbox, spool: Spool) -> None:
    chance = random.Random(2)
    for _ in range(30):
        lanes = [Lane("shop", "v", f"{chance.choice('abcz')}{chance.randrange(10**6)}") for _ in range(80)]
        lanes += [ALICE] * 10 + [GUEST] * 10
        chance.shuffle(lanes)
        keep(spool, *(event(lane, "x" * chance.choice((10, 300, 700, 3_000, 9_000))) for lane in lanes))
        with spool._file.transaction(later()) as connection:
            connection.execute("DELETE FROM events WHERE row % ? = 0", (chance.randrange(3, 9),))
    erase(outbox, spool=spool)
    erase(outbox, "guest-1", spool)
    assert [name for name in NAMES if name in bytes_of(spool.path)] == []
    assert spool.look().events > 100


class WithReplay(Erasure):
    """Another operator's replay sends the person's letter again between the looks at the lanes and at the letters."""

    replays: Callable[[], object] | None = None

    def _erase_letters(self, person: Person, kind: Kind) -> None:
        if kind == "v" and self.replays:
            self.replays()
            self.replays = None
        super()._erase_letters(person, kind)


@pytest.mark.parametrize("wait", [0, 60])
def test_a_letter_that_is_replayed_meanwhile_is_erased(outbox: Outbox, wait: float) -> None:
    event_id = letter(outbox)
    erasure = WithReplay(outbox, None)
    erasure.replays = lambda: replay(outbox, event_id)
    report = erasure.run(survey(outbox, None, "alice").person, wait_seconds=wait)
    assert (places(report), report.complete) == ({"waiting": 1}, True)
    assert books(outbox) == {"accepted": 1, "delivered": 0, "waiting": 0, "dead": 0, "discarded": 1}


def test_a_spool_that_another_process_moves_on_is_waited_for_and_left_in_the_end(outbox: Outbox, spool: Spool) -> None:
    keep(spool, event())
    with spool.flushing() as mine:
        assert mine
        report = erase(outbox, spool=spool, wait=0)
    assert (report.spool_busy, report.complete, spool.look().events) == (True, False, 1)
    assert flush(spool, outbox) == 0, "the tombstone was there before"
    assert erase(outbox, spool=spool).complete


def test_a_spool_that_cannot_be_used_is_said_before_anything_is_changed(outbox: Outbox, tmp_path: Path) -> None:
    put(outbox)
    (tmp_path / "spool.db").write_bytes(b"no database" * 1_000)
    broken = Spool(tmp_path / "spool.db", namespace=outbox.keys.namespace, most_bytes=10**8)
    with pytest.raises(SpoolError, match="cannot be opened"):
        erase(outbox, spool=broken)
    assert len(waiting(outbox)) == 1


def test_an_empty_redis_and_a_foreign_key_do_no_harm(client: redis.Redis, outbox: Outbox) -> None:
    assert erase(outbox).events == []
    client.rpush(outbox.keys.lane("what is this/v/x/y"), "no record")
    put(outbox)
    assert places(erase(outbox)) == {"waiting": 1}
    client.delete(outbox.keys.lane("what is this/v/x/y"))


def test_bytes_that_are_no_record_are_erased_with_their_lane(client: redis.Redis, outbox: Outbox) -> None:
    put(outbox)
    client.rpush(outbox.keys.lane(ALICE), b"\x01short")
    client.hincrby(outbox.keys.ledger, "accepted", 1)
    for book in ("0", "shop/0"):
        for name in ("accepted", "waiting"):
            client.hincrby(outbox.keys.books_of(book), name, 1)
    report = erase(outbox)
    assert [one.type for one in report.events] == ["?", "?"]
    assert audit(outbox).balanced


@pytest.mark.parametrize("uid", ["Мария / 50%", "a/v/b", "~x", "u" * 200])
def test_a_person_of_any_uid_is_erased_everywhere_and_stays_so(outbox: Outbox, spool: Spool, uid: str) -> None:
    lane, guest = Lane("shop", "v", uid), Lane("shop", "g", f"guest of {uid}")
    letter(outbox, lane)
    put(outbox, guest)
    put(outbox, lane, guest_uid=guest.uid)
    put(outbox, BOB, guest_uid="phone")
    keep(spool, event(lane), event(BOB))
    report = erase(outbox, uid, spool)
    assert places(report) == {"waiting": 2, "dead": 1, "spooled": 1}
    assert report.complete
    again = outbox.enter(event(guest), Way(file="another machine's"))
    assert again.erased
    assert (waiting(outbox, lane), waiting(outbox, guest), len(waiting(outbox, BOB))) == ([], [], 1)
    assert audit(outbox).balanced
