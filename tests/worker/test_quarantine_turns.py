"""Quarantine in a worker: an event that has crashed two workers is posted while its process posts nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from delivering import APP, Append, WorkerProcess, drained, ledger
from lanes import LEASE_MS, PATIENCE_MS, claim, come_due, quarantine
from waiting import wait_until

from insend_relay.console.sandbox.sandbox import Sandbox
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.quarantine import QuarantineTurn
from insend_relay.outbox.store import Outbox
from insend_relay.outbox.trying import Tried
from insend_relay.worker.quarantine import TURN_SECONDS, WORK_SECONDS, Quarantine

POST_SECONDS = 0.2  # what the tracker takes for each; a slow machine only makes it more
POISON = Lane(APP, "v", "poison")
MANY = 50  # events of one visitor: they take seconds
BUSY = 24  # events that wait at any time under steady load


def quarantined(append: Append, outbox: Outbox, *uids: str) -> None:
    """The first event of each visitor was in flight in two mass kills; another one waits behind it."""
    lanes = [Lane(APP, "v", uid) for uid in uids]
    for uid in uids:
        append(uid, 0)
        append(uid, 1)
    for _ in range(2):
        assert len(claim(outbox)) == len(lanes)
        for lane in lanes:
            come_due(outbox, lane)
    assert claim(outbox) == []
    for lane in lanes:
        come_due(outbox, lane, ms_ago=PATIENCE_MS)


@contextmanager
def steady_load(append: Append, outbox: Outbox) -> Iterator[None]:
    """New events of other visitors come all the time, so that there is always something to claim."""
    stop = threading.Event()

    def feed() -> None:
        number = 0
        while not stop.is_set():
            if ledger(outbox).get("waiting", 0) < BUSY:
                append(f"other-{number % 16}", number)
                number += 1

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_quarantined_event_is_posted_with_nothing_beside_it_under_steady_load(
    append: Append, delivering: Callable[..., Any], outbox: Outbox, sandbox: Sandbox
) -> None:
    quarantined(append, outbox, "poison")
    outbox.pause(APP)
    sandbox.misbehave(delay=POST_SECONDS)
    with delivering(), steady_load(append, outbox):
        wait_until(lambda: ledger(outbox)["waiting"] >= BUSY)
        outbox.resume(APP)
        wait_until(
            lambda: any(sent.visitor_uid == "poison" and sent.properties["number"] == 1 for sent in sandbox.requests)
        )
    assert_alone(sandbox, ["poison"])
    assert any(sent.visitor_uid != "poison" for sent in sandbox.requests)


def test_a_lane_with_many_events_does_not_hold_up_a_turn(
    append: Append, delivering: Callable[..., Any], outbox: Outbox, sandbox: Sandbox
) -> None:
    quarantined(append, outbox, "poison")
    for number in range(MANY):
        append("busy", number)
    sandbox.misbehave(delay=POST_SECONDS)
    with delivering():
        wait_until(lambda: numbers_of(sandbox, "poison"))
        assert len(numbers_of(sandbox, "busy")) < MANY


def test_bystanders_of_two_mass_kills_are_each_sent_alone_and_delivered_under_steady_load(
    append: Append, delivering: Callable[..., Any], outbox: Outbox, sandbox: Sandbox
) -> None:
    uids = [f"bystander-{number}" for number in range(5)]
    quarantined(append, outbox, *uids)
    sandbox.misbehave(delay=POST_SECONDS)
    with delivering():
        with steady_load(append, outbox):
            wait_until(lambda: {sent.visitor_uid for sent in sandbox.requests} >= set(uids))
        sandbox.behave()
        books = drained(outbox)
    assert_alone(sandbox, uids)
    for uid in uids:
        assert numbers_of(sandbox, uid) == [0, 1], "the lane goes on as an ordinary one"
    assert (books["accepted"], books.get("dead", 0)) == (books["delivered"], 0)
    assert outbox.read("ZCARD", outbox.keys.quarantine(APP)) == 0


def numbers_of(sandbox: Sandbox, uid: str) -> list[int]:
    """The events of a visitor that were posted, in order."""
    return [sent.properties["number"] for sent in sandbox.requests if sent.visitor_uid == uid]


def assert_alone(sandbox: Sandbox, uids: list[str]) -> None:
    """While the first event of each of these visitors was posted, nothing else was."""
    alone = [sent for sent in sandbox.requests if sent.visitor_uid in uids and sent.properties["number"] == 0]
    assert sorted(sent.visitor_uid for sent in alone) == sorted(uids)
    for one in alone:
        others = [sent for sent in sandbox.requests if sent is not one]
        assert all(abs(sent.arrived_at - one.arrived_at) >= POST_SECONDS for sent in others)


def test_an_idle_worker_hears_of_what_is_in_quarantine(
    append: Append, start_worker: Callable[..., WorkerProcess], outbox: Outbox, sandbox: Sandbox
) -> None:
    quarantined(append, outbox, "poison")
    worker = start_worker()
    worker.wait_ready()
    assert drained(outbox)["delivered"] == 2
    assert [sent.properties["number"] for sent in sandbox.requests] == [0, 1]


def test_an_event_whose_crashes_are_too_many_is_buried_in_its_turn_and_its_lane_goes_on(
    append: Append, delivering: Callable[..., Any], outbox: Outbox, sandbox: Sandbox
) -> None:
    quarantined(append, outbox, "poison")
    turn = QuarantineTurn(outbox, "host:1")
    assert turn.claim(lease_ms=LEASE_MS, idle=True, token=b"x" * 40) is not None
    outbox.read("DEL", outbox.keys.quarantine_turn)
    come_due(outbox, POISON, ms_ago=PATIENCE_MS)
    with delivering(abandoned_starts=3):
        books = drained(outbox)
    assert (books["delivered"], books["dead"]) == (1, 1)
    assert [sent.properties["number"] for sent in sandbox.requests] == [1]


def test_an_attempt_that_ends_shows_that_the_event_does_not_crash_its_worker(
    append: Append, delivering: Callable[..., Any], outbox: Outbox, sandbox: Sandbox
) -> None:
    quarantined(append, outbox, "poison")
    event_id = outbox.read("LINDEX", outbox.keys.lane(POISON), 0)[17:33]
    sandbox.misbehave(status=500)

    def known() -> Tried:
        return Tried.unpack(outbox.read("HGET", outbox.keys.trying, str(POISON)), event_id)

    with delivering(retry_first_seconds=3_600):
        wait_until(lambda: known().attempts == 1)
    assert known().abandoned == 1
    assert outbox.read("ZSCORE", outbox.keys.due(APP), str(POISON)) is not None


def test_a_process_that_stops_in_its_turn_gives_it_back(
    append: Append, delivering: Callable[..., Any], outbox: Outbox, sandbox: Sandbox
) -> None:
    quarantined(append, outbox, "poison")
    sandbox.misbehave(delay=3_600)
    with delivering(post_timeout_seconds=3_600, lease_seconds=3_700) as delivery:
        wait_until(lambda: sandbox.requests)
        assert outbox.read("EXISTS", outbox.keys.quarantine_turn)
        delivery._tracker.cut()
    assert not outbox.read("EXISTS", outbox.keys.quarantine_turn)


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Turns:
    """A process's quarantine, and a clock that the test sets."""

    def __init__(self, outbox: Outbox) -> None:
        self.clock = Clock()
        self.quarantine = Quarantine(QuarantineTurn(outbox, "host:1"), self.clock)
        self.quarantine.present = True

    def claim(self, in_flight: int = 0) -> bool:
        """Whether it is leased a lane."""
        if not self.quarantine.may_claim(in_flight=in_flight):
            return False
        return self.quarantine.claim(in_flight=in_flight, lease_ms=LEASE_MS, token=b"") is not None


@pytest.fixture
def turns(outbox: Outbox) -> Turns:
    """A process that has three lanes to send from quarantine."""
    for number in range(3):
        quarantine(outbox, Lane("shop", "v", f"{number}"))
    return Turns(outbox)


def test_a_turn_waits_for_the_posts_in_flight_and_then_sends_one_event_at_a_time(turns: Turns) -> None:
    assert not turns.claim(in_flight=2)
    assert turns.quarantine.in_turn
    turns.clock.now += 10 * TURN_SECONDS  # they took long
    assert not turns.claim(in_flight=1)
    assert turns.claim()
    assert not turns.claim(in_flight=1)


def test_a_turn_is_over_after_its_time_and_ordinary_work_follows_for_as_long(turns: Turns) -> None:
    assert turns.claim()
    assert turns.claim(), "there is time for another"
    turns.clock.now += 7 * TURN_SECONDS
    assert not turns.claim()
    assert not turns.quarantine.in_turn
    turns.clock.now += 6.9 * TURN_SECONDS
    assert not turns.claim()
    turns.clock.now += 0.2 * TURN_SECONDS
    assert turns.claim()


def test_a_turn_with_nothing_left_is_over_at_once_and_the_process_works_before_it_looks_again(turns: Turns) -> None:
    assert [turns.claim() for _ in range(4)] == [True, True, True, False]
    assert not turns.quarantine.in_turn
    turns.clock.now += 0.9 * WORK_SECONDS
    assert not turns.quarantine.may_claim(in_flight=0)
    turns.clock.now += 0.2 * WORK_SECONDS
    assert turns.quarantine.may_claim(in_flight=0)


def test_without_lanes_in_quarantine_redis_is_not_asked(turns: Turns) -> None:
    turns.quarantine.present = False
    assert not turns.quarantine.may_claim(in_flight=0)
