"""Replay: in the order of acceptance, one event of a visitor at a time, paced, interruptible, honest about returns."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable

import pytest
from lanes import ALICE, BOB, GUEST, OTHER, bury, claim, claim_one, letter, put, waiting

from insend_relay.operations import dead
from insend_relay.operations.dead import DeadLetters, Filter
from insend_relay.operations.replay import KEPT_SECONDS, Pace, Progress, Replay, overdue, replay, warnings
from insend_relay.outbox import record
from insend_relay.outbox.claim import Claim
from insend_relay.outbox.errors import NotFound
from insend_relay.outbox.keys import Lane
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


def test_one_event_of_a_visitor_is_under_way_at_a_time_and_later_ones_wait_for_it(outbox: Outbox) -> None:
    first, second, third = letter(outbox, ALICE), letter(outbox, BOB), letter(outbox, ALICE)
    run = Replay.start(outbox)
    last = run.run(per_second=FAST, stop=stop_after(100), step_seconds=0.001)
    assert not last.finished
    assert counts(last) == (3, 2, 0, 0, 2)
    assert waiting(outbox, ALICE) == [first]
    assert waiting(outbox, BOB) == [second]
    worker = Worker(outbox)
    assert run.run(per_second=FAST, stop=worker, step_seconds=0.001).finished
    worker()
    assert worker.sent[-1] == third
    assert counts(run.progress()) == (3, 3, 3, 0, 0)
    assert run.settled()


def test_a_later_letter_never_overtakes_an_earlier_one_that_had_to_wait(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of alice is delivered in the midst of a pass, after her second was found busy: the third must wait."""
    letters = [letter(outbox, lane) for lane in (ALICE, ALICE, BOB, ALICE, ALICE)]
    monkeypatch.setattr(dead, "BATCH", 1)
    worker = Worker(outbox)
    looks = iter(range(10_000))

    def now_and_then() -> bool:
        return worker() if next(looks) % 5 == 4 else False

    assert replay(outbox, per_second=FAST, stop=now_and_then).finished
    worker()
    assert [one for one in worker.sent if one != letters[2]] == [one for one in letters if one != letters[2]]


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
    under_way(outbox, range(20))
    assert replay(outbox, per_second=9.0, stop=stop_after(50)).finished
    outbox.read("DEL", outbox.keys.replaying)


def test_a_run_keeps_its_pace(outbox: Outbox) -> None:
    for number in range(3):
        letter(outbox, visitor(number))
    last = Replay.start(outbox).run(per_second=0.01, stop=stop_after(50), step_seconds=0.001)
    assert last.replayed == 1, "the second may go after a hundred seconds"


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
    for number in range(4):
        letter(outbox, visitor(number))
    run = Replay.start(outbox)
    run.run(per_second=FAST, stop=lambda: run.progress().replayed >= 2)
    assert int(outbox.read("HGET", outbox.keys.replay(run.id), "reached")) == 3


class Clock:
    """Stands in for the module time: it goes on only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_budget_ends_a_run_that_has_to_wait(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    letter(outbox, ALICE)
    letter(outbox, ALICE)
    monkeypatch.setattr("insend_relay.operations.replay.time", Clock())
    last = Replay.start(outbox).run(per_second=FAST, budget_seconds=5.0)
    assert (last.replayed, last.outstanding, last.finished) == (1, 1, False)


def under_way(outbox: Outbox, lanes: range, app: str = "shop") -> None:
    """As if another run had sent back a letter of each of these visitors."""
    for number in lanes:
        outbox.read("HSET", outbox.keys.replaying, str(visitor(number, app)), b"an id and a run")


def test_replayed_events_stay_behind_live_traffic(outbox: Outbox) -> None:
    letter(outbox, ALICE)
    run = Replay.start(outbox)
    under_way(outbox, range(10))
    held_back = run.run(per_second=5.0, stop=stop_after(50), step_seconds=0.001)
    assert (held_back.replayed, held_back.finished) == (0, False)
    outbox.read("HDEL", outbox.keys.replaying, str(visitor(0)))
    assert run.run(per_second=5.0, stop=stop_after(50), step_seconds=0.001).replayed == 1
    outbox.read("DEL", outbox.keys.replaying)


def test_the_faster_a_replay_the_more_may_be_under_way(outbox: Outbox) -> None:
    letter(outbox, ALICE)
    under_way(outbox, range(19))
    assert replay(outbox, per_second=10.0, stop=stop_after(50)).replayed == 1
    outbox.read("DEL", outbox.keys.replaying)


def test_a_paused_app_holds_up_its_own_letters_only(outbox: Outbox) -> None:
    mine = letter(outbox, ALICE)
    others = [letter(outbox, visitor(number, "second")) for number in range(3)]
    outbox.pause("shop")
    under_way(outbox, range(20))
    run = Replay.start(outbox)
    worker = Worker(outbox)
    told: list[Progress] = []

    def all_is_seen() -> bool:
        return worker() or (len(worker.sent) == len(others) and any(one.paused for one in told))

    last = run.run(per_second=9.0, stop=all_is_seen, progress=told.append, step_seconds=0.001)
    assert worker.sent == others
    assert (last.replayed, last.finished, last.paused) == (3, False, ("shop",))
    outbox.resume("shop")
    outbox.read("DEL", outbox.keys.replaying)
    last = run.run(per_second=9.0)
    worker()
    assert worker.sent == [*others, mine]
    assert (last.replayed, last.finished, last.paused) == (4, True, ())


def test_a_run_that_waits_for_a_paused_app_goes_on_when_it_is_resumed(outbox: Outbox) -> None:
    letter(outbox, ALICE)
    outbox.pause("shop")
    under_way(outbox, range(20))
    looks = iter(range(1_000))

    def resumed_later() -> bool:
        if next(looks) == 20:
            outbox.resume("shop")
            outbox.read("DEL", outbox.keys.replaying)
        return False

    assert replay(outbox, per_second=9.0, stop=resumed_later).finished


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


def test_warnings_speak_of_old_carts_and_void_status_changes(outbox: Outbox) -> None:
    assert warnings(outbox) == []
    letter(outbox, BOB, type="link")
    assert warnings(outbox) == []
    letter(outbox, ALICE, type="update_cart")
    letter(outbox, ALICE, type="purchase")
    letter(outbox, ALICE, type="order_update")
    cart, purchase = warnings(outbox)
    assert cart.startswith("1 update_cart")
    assert purchase.startswith("1 purchase")
    (void,) = warnings(outbox, Filter(type="order_update"))
    assert void.startswith("1 order_update without the purchase before it")
    assert warnings(outbox, Filter(visitor="bob")) == []


def test_an_order_update_of_another_visitor_is_not_void(outbox: Outbox) -> None:
    letter(outbox, BOB, type="purchase")
    letter(outbox, ALICE, type="order_update")
    assert warnings(outbox, Filter(type="order_update")) == []


def test_a_live_event_of_the_visitor_is_not_overtaken(outbox: Outbox) -> None:
    dead_one = letter(outbox, ALICE)
    live = put(outbox, ALICE)
    assert replay(outbox, per_second=FAST).replayed == 1
    assert waiting(outbox, ALICE) == [live, dead_one]
    assert claim_one(outbox).id == live
