"""Replay: in the order of acceptance, behind what waits, paced, with a limit, interruptible; each event is counted."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from lanes import ALICE, BOB, GUEST, OTHER, books, bury, claim, claim_one, erase, letter, put, waiting

from insend_relay.operations import dead
from insend_relay.operations.audit import audit
from insend_relay.operations.dead import DeadLetters, Filter
from insend_relay.operations.discard_lane import LaneDiscard, last_accepted
from insend_relay.operations.pace import Pace
from insend_relay.operations.replay import KEPT_SECONDS, Progress, Replay, overdue, replay
from insend_relay.operations.replay_risks import Risks, find_risks
from insend_relay.outbox import record
from insend_relay.outbox.claim import Claim
from insend_relay.outbox.errors import NotFound
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.letter import letter_meta
from insend_relay.outbox.quarantine import CRASHED
from insend_relay.outbox.store import Outbox

FAST = 100_000.0
DELIVERED, DEAD = "delivered", "dead"


def visitor(number: int, app: str = "shop") -> Lane:
    return Lane(app, "v", f"v-{number}")


class Worker:
    """Works whenever the replay asks whether to stop; so the test decides when, and there is no second thread."""

    def __init__(self, outbox: Outbox, answer: Callable[[Claim], str] = lambda _: DELIVERED) -> None:
        self.outbox = outbox
        self.answer = answer
        self.sent: list[bytes] = []

    def __call__(self) -> bool:
        for held in claim(self.outbox):
            self.sent.append(held.id)
            if self.answer(held) == DELIVERED:
                self.outbox.settle(held, lease_ms=0)
            else:
                bury(self.outbox, held, lease_ms=0)
        return False


def stop_after(calls: int) -> Callable[[], bool]:
    left = iter(range(calls))
    return lambda: next(left, None) is None


class Clock:
    """Stands in for the module time: it goes on only while something sleeps."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Waiting takes no time."""
    made = Clock()
    for module in ("replay", "replay_stretch"):
        monkeypatch.setattr(f"insend_relay.operations.{module}.time", made)
    return made


def counts(progress: Progress) -> tuple[int, ...]:
    return progress.total, progress.replayed, progress.delivered, progress.returned, progress.outstanding


def test_letters_go_back_in_the_order_of_acceptance(outbox: Outbox) -> None:
    letters = [letter(outbox, lane) for lane in (ALICE, BOB, ALICE, GUEST, BOB)]
    worker = Worker(outbox)
    told: list[Progress] = []
    last = replay(outbox, per_second=FAST, stop=worker, progress=told.append)
    worker()
    assert worker.sent == letters
    assert last.finished
    assert told[-1] == last
    assert (last.total, last.replayed, last.skipped) == (5, 5, 0)


def test_the_letters_of_a_visitor_wait_behind_each_other_in_their_order(outbox: Outbox) -> None:
    first, second, third = letter(outbox, ALICE), letter(outbox, BOB), letter(outbox, ALICE)
    run = Replay.start(outbox)
    last = run.run(per_second=FAST)
    assert last.finished
    assert counts(last) == (3, 3, 0, 0, 3)
    assert waiting(outbox, ALICE) == [first, third]
    assert waiting(outbox, BOB) == [second]
    worker = Worker(outbox)
    while run.progress().outstanding:
        worker()
    assert worker.sent[-1] == third
    assert counts(run.progress()) == (3, 3, 3, 0, 0)


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_the_letters_of_a_visitor_never_overtake_each_other(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """A worker delivers now and then, and the run has room for one event at a time."""
    letters = [letter(outbox, lane) for lane in (ALICE, ALICE, BOB, ALICE, ALICE)]
    monkeypatch.setattr(dead, "BATCH", batch)
    monkeypatch.setattr("insend_relay.operations.replay_stretch.BATCH", batch)
    monkeypatch.setattr("insend_relay.operations.replay.MIN_ROOM", 1)
    monkeypatch.setattr("insend_relay.operations.replay.ROOM_SECONDS", 0)
    worker = Worker(outbox)
    looks = iter(range(10_000))

    def now_and_then() -> bool:
        return worker() if next(looks) % 5 == 4 else False

    assert Replay.start(outbox).run(per_second=FAST, stop=now_and_then, step_seconds=0.001).finished
    worker()
    assert worker.sent == letters


def test_a_letter_that_dies_again_is_counted_as_returned_and_left(outbox: Outbox) -> None:
    first, second = letter(outbox, ALICE), letter(outbox, BOB)
    run = Replay.start(outbox)
    worker = Worker(outbox, lambda held: DEAD if held.id == first else DELIVERED)
    assert run.run(per_second=FAST, stop=worker).finished
    worker()
    assert counts(run.progress()) == (2, 2, 1, 1, 0)
    assert worker.sent == [first, second]
    assert [found.id.bytes for found in DeadLetters(outbox).scan()] == [first]
    assert Replay.resume(outbox, run.id).run(per_second=FAST).replayed == 2, "a returned letter does not go twice"


def test_letters_that_died_after_the_start_are_left(outbox: Outbox) -> None:
    old = letter(outbox, ALICE)
    run = Replay.start(outbox)
    newer = letter(outbox, BOB)
    assert run.run(per_second=FAST).replayed == 1
    assert waiting(outbox, ALICE) == [old]
    assert [found.id.bytes for found in DeadLetters(outbox).scan()] == [newer]


def test_invalid_letters_stay_and_are_counted_as_skipped(outbox: Outbox) -> None:
    outbox.bury_invalid("shop", record.new_id(), lane=ALICE, type="purchase", payload=b"{}", faults="no")
    good = letter(outbox, ALICE)
    last = replay(outbox, per_second=FAST)
    assert (last.total, last.skipped, last.replayed, last.finished) == (2, 1, 1, True)
    assert waiting(outbox, ALICE) == [good]
    assert DeadLetters(outbox).count() == 1


def test_an_invalid_letter_of_a_paused_app_is_not_waited_for(outbox: Outbox) -> None:
    outbox.bury_invalid("shop", record.new_id(), lane=ALICE, type="purchase", payload=b"{}", faults="no")
    outbox.pause("shop")
    assert replay(outbox, per_second=9.0, stop=stop_after(50)).finished


def test_a_run_keeps_its_pace(outbox: Outbox) -> None:
    for number in range(3):
        letter(outbox, visitor(number))
    last = Replay.start(outbox).run(per_second=0.01, stop=stop_after(50), step_seconds=0.001)
    assert last.replayed == 1, "the second may go after a hundred seconds"


@pytest.mark.usefixtures("clock")
def test_a_run_that_another_process_goes_on_with_keeps_its_pace(outbox: Outbox) -> None:
    for number in range(3):
        letter(outbox, visitor(number))
    run = Replay.start(outbox)
    for _ in range(5):
        assert run.run(per_second=0.01, budget_seconds=0.5).replayed == 1
    assert run.run(per_second=0.01, budget_seconds=150.0).replayed == 2


@pytest.mark.parametrize("by_id", [True, False])
def test_only_the_letters_that_are_meant_go(outbox: Outbox, by_id: bool) -> None:  # noqa: FBT001 - the two cases
    letter(outbox, ALICE)
    meant = letter(outbox, BOB)
    wanted = Filter(id=uuid.UUID(bytes=meant)) if by_id else Filter(visitor="bob")
    last = replay(outbox, wanted, per_second=FAST)
    assert (last.total, last.replayed) == (1, 1)
    assert waiting(outbox, BOB) == [meant]
    assert waiting(outbox, ALICE) == []


def test_a_run_that_was_stopped_goes_on_from_its_stored_filter(outbox: Outbox) -> None:
    for number in range(6):
        letter(outbox, visitor(number))
    letter(outbox, OTHER)
    run = Replay.start(outbox, Filter(app="shop", since_ms=1))
    halfway = run.run(per_second=FAST, stop=lambda: run.progress().replayed >= 3)
    assert (halfway.replayed, halfway.finished) == (3, False)
    again = Replay.resume(outbox, run.id)
    assert (again.total, again.filter) == (6, Filter(app="shop", since_ms=1, last_burial=7))
    last = again.run(per_second=FAST)
    assert (last.replayed, last.finished) == (6, True)
    assert waiting(outbox, OTHER) == []


def test_a_run_goes_on_where_it_was_and_reads_nothing_twice(outbox: Outbox) -> None:
    letters = [letter(outbox, visitor(number)) for number in range(4)]
    run = Replay.start(outbox)
    run.run(per_second=FAST, stop=lambda: run.progress().replayed >= 2)
    assert json.loads(outbox.read("HGET", outbox.keys.replay(run.id), "cursors")) == {"shop": [2, letters[1].hex()]}


def with_seq(outbox: Outbox, lane: Lane, seq: int, **more: Any) -> None:
    """A letter whose record was damaged: its seq is another one."""
    put(outbox, lane)
    data = outbox.read("LINDEX", outbox.keys.lane(lane), 0)
    outbox.read("LSET", outbox.keys.lane(lane), 0, data[:1] + seq.to_bytes(8) + data[9:])
    bury(outbox, claim_one(outbox), lease_ms=0, **more)


@pytest.mark.parametrize("seq", [5, 2**63])
@pytest.mark.parametrize("stops", [(), (1, 2)])
def test_letters_of_the_same_seq_all_go(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, seq: int, stops: tuple[int, ...]
) -> None:
    monkeypatch.setattr(dead, "BATCH", 2)
    monkeypatch.setattr("insend_relay.operations.replay_stretch.BATCH", 2)
    for number in range(7):
        with_seq(outbox, visitor(number), seq)
    run = Replay.start(outbox)
    for sent in stops:
        assert run.run(per_second=FAST, stop=stop_after(sent * 4)).replayed >= 1
        assert run.progress().replayed < 7
    assert counts(run.run(per_second=FAST)) == (7, 7, 0, 0, 7)


# How many may be outstanding


@pytest.mark.parametrize(("per_second", "room"), [(12.5, 25), (2.0, 10)])
@pytest.mark.usefixtures("clock")
def test_a_run_into_an_outage_keeps_the_dead_letters(outbox: Outbox, per_second: float, room: int) -> None:
    """Nothing is delivered: what goes in two seconds waits in its lanes, the rest stays where an operator sees it."""
    for number in range(40):
        letter(outbox, visitor(number))
    last = Replay.start(outbox).run(per_second=per_second, budget_seconds=60.0)
    assert counts(last) == (40, room, 0, 0, room)
    assert not last.finished
    assert DeadLetters(outbox).count() == 40 - room


@pytest.mark.usefixtures("clock")
def test_when_an_event_has_found_its_end_the_next_may_go(outbox: Outbox) -> None:
    for number in range(12):
        letter(outbox, visitor(number))
    run = Replay.start(outbox)
    assert run.run(per_second=5.0, budget_seconds=60.0).outstanding == 10
    first, second, *_ = claim(outbox)
    outbox.settle(first, lease_ms=0)
    bury(outbox, second, lease_ms=0)
    last = run.run(per_second=5.0, budget_seconds=60.0)
    assert (last.finished, counts(last)) == (True, (12, 12, 1, 1, 10))


@pytest.mark.usefixtures("clock")
def test_the_events_of_another_run_take_no_room(outbox: Outbox) -> None:
    for number in range(10):
        letter(outbox, visitor(number))
    assert replay(outbox, per_second=5.0).outstanding == 10
    letter(outbox, visitor(20))
    assert replay(outbox, per_second=5.0).finished


@pytest.mark.usefixtures("clock")
def test_the_cursor_of_a_paused_app_waits_while_the_letters_of_others_go(outbox: Outbox) -> None:
    mine = [letter(outbox, visitor(number, "second")) for number in range(2)]
    others = [letter(outbox, visitor(number)) for number in range(30)]
    outbox.pause("second")
    run = Replay.start(outbox)
    worker = Worker(outbox)
    told: list[Progress] = []
    last = run.run(per_second=100.0, stop=worker, progress=told.append, budget_seconds=60.0)
    worker()
    assert worker.sent == others
    assert (last.replayed, last.finished, last.paused) == (30, False, ("second",))
    assert any(one.paused == ("second",) for one in told)
    outbox.resume("second")
    last = run.run(per_second=100.0, stop=worker)
    worker()
    assert worker.sent == [*others, *mine]
    assert (last.replayed, last.finished, last.paused) == (32, True, ())


def test_a_run_that_waits_for_a_paused_app_goes_on_when_it_is_resumed(outbox: Outbox) -> None:
    letter(outbox, ALICE)
    outbox.pause("shop")
    looks = iter(range(1_000))

    def resumed_later() -> bool:
        if next(looks) == 20:
            outbox.resume("shop")
        return False

    assert replay(outbox, per_second=9.0, stop=resumed_later).finished


@pytest.mark.usefixtures("clock")
def test_what_waits_in_an_app_that_was_paused_takes_no_room_from_the_others(outbox: Outbox) -> None:
    for number in range(15):
        letter(outbox, visitor(number, "second"))
    others = [letter(outbox, visitor(number)) for number in range(30)]
    run = Replay.start(outbox)
    assert run.run(per_second=5.0, budget_seconds=60.0).outstanding == 10
    outbox.pause("second")
    worker = Worker(outbox)
    last = run.run(per_second=5.0, stop=worker, budget_seconds=60.0)
    worker()
    assert worker.sent == others
    assert counts(last)[1:] == (40, 30, 0, 10)
    assert DeadLetters(outbox).count() == 5


@pytest.mark.usefixtures("clock")
def test_an_app_whose_pause_ends_for_a_moment_gets_no_more_than_its_room(outbox: Outbox) -> None:
    """In an outage, an app is open for each probe; its events that wait already count then."""
    for number in range(25):
        letter(outbox, visitor(number, "second"))
    letter(outbox, visitor(0))
    run = Replay.start(outbox)

    def outage_with_probes() -> bool:
        sent = run.progress().replayed
        if sent == 10:
            outbox.pause("second")
        elif sent > 10:
            outbox.resume("second")
        return False

    last = run.run(per_second=5.0, stop=outage_with_probes, budget_seconds=60.0)
    assert last.replayed == 11
    assert sum(len(waiting(outbox, visitor(number, "second"))) for number in range(25)) == 10


@pytest.mark.usefixtures("clock")
def test_a_budget_ends_a_run_that_has_to_wait(outbox: Outbox) -> None:
    for _ in range(11):
        letter(outbox, ALICE)
    last = Replay.start(outbox).run(per_second=1.0, budget_seconds=20.0)
    assert (last.replayed, last.outstanding, last.finished) == (10, 10, False)


def test_a_run_beside_live_traffic_keeps_both_in_order(outbox: Outbox) -> None:
    lanes = [visitor(number) for number in range(5)]
    letters = [letter(outbox, lanes[number % 5]) for number in range(40)]
    live: list[bytes] = []
    worker = Worker(outbox)

    def traffic() -> bool:
        live.append(put(outbox, lanes[len(live) % 5]))
        return worker()

    run = Replay.start(outbox)
    assert run.run(per_second=FAST, stop=traffic).finished
    while run.progress().outstanding or any(waiting(outbox, lane) for lane in lanes):
        worker()
    for number in range(5):
        assert [one for one in worker.sent if one in letters[number::5]] == letters[number::5]
        assert [one for one in worker.sent if one in live[number::5]] == live[number::5]
    assert len(worker.sent) == len(set(worker.sent)) == len(letters) + len(live)
    assert books(outbox)["delivered"] == len(worker.sent)


def test_what_is_discarded_or_erased_on_its_way_is_counted_and_takes_no_room(outbox: Outbox) -> None:
    for number in range(3):
        letter(outbox, visitor(number))
    run = Replay.start(outbox)
    run.run(per_second=FAST)
    assert erase(outbox, visitor(0))[0] == b"ERASED"
    LaneDiscard(visitor(1), last_accepted(outbox)).run(outbox, wait_seconds=0)
    last = run.progress()
    assert (last.replayed, last.discarded, last.outstanding) == (3, 2, 1)
    assert outbox.read("HLEN", outbox.keys.replaying) == 1
    assert audit(outbox).findings == []


class Reads:
    """A client that notes how much each command asks for."""

    def __init__(self, redis: Any) -> None:
        self.redis = redis
        self.most = 0

    def execute_command(self, *args: Any) -> Any:
        reply = self.redis.execute_command(*args)
        if args[0] in {"HMGET", "ZRANGEBYSCORE", "ZRANGE", "SMEMBERS", "HGETALL"}:
            self.most = max(self.most, len(reply))
        return reply


def test_a_run_reads_many_letters_in_bounded_batches(outbox: Outbox) -> None:
    for number in range(350):
        letter(outbox, visitor(number))
    reads = Reads(outbox.redis)
    watched = Outbox(reads, namespace=outbox.keys.namespace)
    assert replay(watched, per_second=FAST).replayed == 350
    assert 0 < reads.most <= 2 * dead.BATCH  # a range comes with its scores


def test_a_run_is_kept_for_a_month_and_holds_its_filter(outbox: Outbox) -> None:
    run = Replay.start(outbox, Filter(app="shop"))
    key = outbox.keys.replay(run.id)
    outbox.read("EXPIRE", key, 60)
    run.run(per_second=FAST)
    assert KEPT_SECONDS - 60 < int(outbox.read("TTL", key)) <= KEPT_SECONDS
    assert json.loads(outbox.read("HGET", key, "filter")) == {"app": "shop", "last_burial": 0}


def test_of_a_runs_messages_only_the_newest_leads_it_on(outbox: Outbox) -> None:
    letter(outbox)
    run = Replay.start(outbox)
    assert overdue(outbox) is None, "nobody was asked to go on with it"
    run.hand_over()
    assert overdue(outbox) == (run.id, 1)
    assert overdue(outbox) is None, "it has been seen to"
    assert run.take_turn(1) == 2
    assert run.take_turn(1) is None, "the same message a second time"
    outbox.read("ZADD", outbox.keys.replays, "XX", 1, run.id)  # as if a minute had passed
    assert overdue(outbox) == (run.id, 3)
    assert run.take_turn(2) is None, "the message that had been given up for lost"
    assert run.take_turn(0) == 4, "a person's own message names no turn"
    assert run.take_turn(4) == 5
    run.run(per_second=FAST)
    assert outbox.read("ZCARD", outbox.keys.replays) == 0


def test_a_run_that_is_taken_back_is_left_alone_by_workers(outbox: Outbox) -> None:
    run = Replay.start(outbox)
    run.hand_over()
    _, turn = overdue(outbox) or ("", 0)
    run.take_back()
    assert run.take_turn(turn) is None
    assert overdue(outbox) is None


def test_a_run_that_is_no_longer_kept_is_no_longer_gone_on_with(outbox: Outbox) -> None:
    run = Replay.start(outbox)
    run.hand_over()
    outbox.read("DEL", outbox.keys.replay(run.id))
    assert overdue(outbox) is None
    assert outbox.read("EXISTS", outbox.keys.replays, outbox.keys.replay(run.id)) == 0


def test_a_run_that_never_was_cannot_be_resumed(outbox: Outbox) -> None:
    with pytest.raises(NotFound, match="no replay nonsense"):
        Replay.resume(outbox, "nonsense")


def test_a_pace_makes_up_for_a_late_timer_but_not_for_a_stall() -> None:
    pace = Pace(per_second=10)
    assert pace.due_in(100.0) == 0
    pace.took(100.0)
    assert pace.due_in(100.0) == pytest.approx(0.1)
    assert pace.due_in(100.04) == pytest.approx(0.06)
    pace.took(100.15)
    assert pace.due_in(100.15) == pytest.approx(0.05), "a timer that was late does not slow it down"
    pace.took(130.0)
    assert pace.due_in(130.0) == pytest.approx(0.1), "the seconds of a stall are not caught up"


def test_the_risks_are_old_carts_void_status_changes_and_guests(outbox: Outbox) -> None:
    assert find_risks(outbox) == Risks()
    letter(outbox, BOB, type="link")
    assert find_risks(outbox) == Risks()
    letter(outbox, ALICE, type="update_cart")
    letter(outbox, ALICE, type="purchase")
    letter(outbox, ALICE, type="order_update")
    assert find_risks(outbox) == Risks(carts=1, purchases=1)
    assert find_risks(outbox, Filter(type="order_update")) == Risks(orphans=1)
    assert find_risks(outbox, Filter(visitor="bob")) == Risks()
    letter(outbox, GUEST, type="link")
    assert find_risks(outbox, Filter(type="link")) == Risks(guests=1)


def test_what_the_tracker_may_have_and_what_crashed_its_workers_are_risks(outbox: Outbox) -> None:
    meta = letter_meta(outcome="unknown")
    letter(outbox, ALICE, type="link", meta=meta)
    letter(outbox, BOB, type="link", meta=meta, reason=CRASHED)
    assert find_risks(outbox) == Risks(unknown=2, crashed=1)
    assert find_risks(outbox, Filter(reason=CRASHED)) == Risks(unknown=1, crashed=1)


def test_an_order_update_of_another_visitor_is_not_void(outbox: Outbox) -> None:
    letter(outbox, BOB, type="purchase")
    letter(outbox, ALICE, type="order_update")
    assert find_risks(outbox, Filter(type="order_update")) == Risks()


def test_across_a_login_a_replayed_letter_of_the_guest_is_not_waited_for(outbox: Outbox) -> None:
    """The guest's lane was empty at the login; so the visitor's event has no barrier."""
    guests = letter(outbox, GUEST)
    login = put(outbox, ALICE, guest_uid=GUEST.uid)
    assert replay(outbox, per_second=FAST).replayed == 1
    assert {held.id for held in claim(outbox)} == {guests, login}


def test_a_live_event_of_the_visitor_is_not_overtaken(outbox: Outbox) -> None:
    dead_one = letter(outbox, ALICE)
    live = put(outbox, ALICE)
    assert replay(outbox, per_second=FAST).replayed == 1
    assert waiting(outbox, ALICE) == [live, dead_one]
    assert claim_one(outbox).id == live
