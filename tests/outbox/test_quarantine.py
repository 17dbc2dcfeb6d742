"""A head that has crashed two workers goes into quarantine, from which one process at a time sends it alone."""

from __future__ import annotations

from typing import Any

import pytest
from attempts import retry
from lanes import (
    ALICE,
    BOB,
    GUEST,
    LEASE_MS,
    OTHER,
    PATIENCE_MS,
    books,
    bury,
    claim,
    claim_one,
    come_due,
    crash,
    due_in,
    erase,
    guard_state,
    ledger,
    now_ms,
    open_in,
    pause_elapses,
    put,
    quarantine,
    replay,
)
from outages import lane_of, trip

from insend_relay.operations.audit import audit
from insend_relay.outbox.claim import Claim
from insend_relay.outbox.clock_steps import NOTHING_AHEAD, ClockSteps
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.lease import new_token
from insend_relay.outbox.quarantine import QuarantineTurn
from insend_relay.outbox.store import Outbox
from insend_relay.outbox.trying import Tried

LATER_MS = 600_000
NEVER = 1e15


class Process:
    """A process that claims from quarantine; each has a name of its own."""

    def __init__(self, outbox: Outbox, name: str = "a") -> None:
        self.turn = QuarantineTurn(outbox, f"{name}:1")
        self._name = name.encode() * 32
        self._claims = 0

    def claim(self, *, idle: bool = True) -> Claim | None:
        """Its next claim from quarantine."""
        self._claims += 1
        return self.turn.claim(lease_ms=LEASE_MS, idle=idle, token=self._name + self._claims.to_bytes(8))


def sent(claimed: Claim | None) -> Claim:
    """The claim of a lane from quarantine."""
    assert claimed is not None
    assert claimed.quarantined
    return claimed


def standing(outbox: Outbox, lane: Lane = ALICE) -> str:
    """In which schedules the lane stands."""
    names = {"due": outbox.keys.due(lane.app), "quarantine": outbox.keys.quarantine(lane.app)}
    return " ".join(name for name, key in names.items() if outbox.read("ZSCORE", key, str(lane)) is not None)


def killed_twice(outbox: Outbox, lanes: list[Lane]) -> None:
    """Two processes have crashed while they sent the first events of these lanes."""
    for _ in range(2):
        assert len(claim(outbox)) == len(lanes)
        for lane in lanes:
            come_due(outbox, lane)


# What goes into quarantine


def test_an_event_that_crashes_its_worker_takes_no_other_event_with_it_after_its_second_crash(outbox: Outbox) -> None:
    people = [Lane("shop", "v", f"{number}") for number in range(20)]
    poison = str(people[7])
    for lane in people:
        put(outbox, lane)
    process = Process(outbox)
    deaths: dict[str, int] = {}
    while deaths.get(poison, 0) < 5 or ledger(outbox, "delivered") < [19]:
        claims: list[Claim] = claim(outbox, 32)
        assert max((held.attempts().abandoned for held in claims), default=0) < 2
        if not claims:
            for lane in people:
                if (due_in(outbox, lane) or 0) > -PATIENCE_MS:
                    come_due(outbox, lane, ms_ago=PATIENCE_MS)
            claims = [sent(process.claim())]
        deaths |= {held.lane: held.attempts().abandoned for held in claims}
        if poison in {held.lane for held in claims}:
            for held in claims:
                come_due(outbox, Lane.parse(held.lane))
        else:
            for held in claims:
                outbox.settle(held, lease_ms=0)
    assert {lane: times for lane, times in deaths.items() if times > 2} == {poison: 5}


def test_a_head_with_two_crashed_workers_goes_into_quarantine_and_the_others_are_leased_at_once(outbox: Outbox) -> None:
    put(outbox, ALICE)
    crash(outbox, ALICE)
    put(outbox, BOB)
    claims = outbox.claim("worker-1", 9, lease_ms=LEASE_MS)
    assert ([held.lane for held in claims], claims.quarantine) == ([str(BOB)], True)
    assert standing(outbox) == "quarantine"
    assert outbox.read("HEXISTS", outbox.keys.lease, str(ALICE)) == 0, "its end is counted"
    assert Tried.unpack(outbox.read("HGET", outbox.keys.trying, str(ALICE)), b"").attempts == 0


def test_one_crashed_worker_is_no_reason_for_quarantine(outbox: Outbox) -> None:
    put(outbox, ALICE)
    put(outbox, BOB)
    for held in claim(outbox):
        come_due(outbox, Lane.parse(held.lane))
    claims = outbox.claim("worker-1", 9, lease_ms=LEASE_MS)
    assert (len(claims), claims.quarantine) == (2, False)


# The turn


def test_a_lane_waits_in_quarantine_for_five_seconds_before_a_process_makes_room_for_it(outbox: Outbox) -> None:
    quarantine(outbox, ms_ago=0)
    process = Process(outbox)
    assert process.claim() is None
    assert not process.turn.held
    come_due(outbox, ms_ago=PATIENCE_MS)
    assert sent(process.claim()).lane == str(ALICE)


def test_a_process_with_something_in_flight_gets_the_turn_and_the_lane_only_when_it_is_idle(outbox: Outbox) -> None:
    quarantine(outbox)
    process = Process(outbox)
    assert process.claim(idle=False) is None
    assert process.turn.held
    assert outbox.read("HEXISTS", outbox.keys.lease, str(ALICE)) == 0
    held = sent(process.claim())
    assert (held.lane, held.attempts().abandoned, held.probe) == (str(ALICE), 2, False)
    in_ms = due_in(outbox)
    assert in_ms is not None
    assert 0 < in_ms <= LEASE_MS
    assert standing(outbox) == "quarantine"


def test_one_process_at_a_time_has_the_turn(outbox: Outbox) -> None:
    quarantine(outbox, ALICE)
    quarantine(outbox, BOB)
    first, second = Process(outbox, "a"), Process(outbox, "b")
    assert first.claim(idle=False) is None
    assert second.claim() is None
    assert not second.turn.held
    outbox.settle(sent(first.claim()), lease_ms=0)
    assert second.claim() is None
    first.turn.leave()
    outbox.settle(sent(second.claim()), lease_ms=0)


def test_a_process_that_dies_in_its_turn_blocks_the_others_for_no_longer_than_a_lease(outbox: Outbox) -> None:
    quarantine(outbox, ALICE)
    quarantine(outbox, BOB)
    sent(Process(outbox, "a").claim())
    other = Process(outbox, "b")
    assert other.claim() is None
    assert 0 < outbox.read("PTTL", outbox.keys.quarantine_turn) <= LEASE_MS
    outbox.read("DEL", outbox.keys.quarantine_turn)  # as when that time is over
    assert sent(other.claim()).lane == str(BOB)


def test_only_the_process_that_has_the_turn_ends_it(outbox: Outbox) -> None:
    quarantine(outbox)
    first, second = Process(outbox, "a"), Process(outbox, "b")
    assert first.claim(idle=False) is None
    outbox.read("DEL", outbox.keys.quarantine_turn)  # it came too late
    assert second.claim(idle=False) is None
    first.turn.leave()
    assert first.claim() is None
    sent(second.claim())


def test_the_turn_is_free_again_when_there_is_nothing_to_send(outbox: Outbox) -> None:
    quarantine(outbox)
    process = Process(outbox)
    outbox.settle(sent(process.claim()), lease_ms=0)
    assert process.claim() is None
    assert not process.turn.held
    assert not outbox.read("EXISTS", outbox.keys.quarantine_turn, outbox.keys.quarantine_apps)
    assert not outbox.claim("worker-1", 9, lease_ms=LEASE_MS).quarantine


def test_the_longest_due_goes_first_and_the_apps_take_turns(outbox: Outbox) -> None:
    for number, lane in enumerate((ALICE, BOB, OTHER)):
        quarantine(outbox, lane)
        come_due(outbox, lane, ms_ago=PATIENCE_MS + 1_000 * (9 - number))
    process = Process(outbox)
    order = []
    for _ in range(3):
        held = sent(process.claim())
        order.append(held.lane)
        outbox.settle(held, lease_ms=0)
        outbox.read("ZADD", outbox.keys.quarantine_apps, "XX", now_ms(outbox) + 1, held.app)
    assert order == [str(ALICE), str(OTHER), str(BOB)]


# How a turn ends


def test_a_crash_in_quarantine_is_counted_and_the_event_waits_there_again(outbox: Outbox) -> None:
    event_id = quarantine(outbox)
    assert sent(Process(outbox, "a").claim()).attempts().abandoned == 2
    outbox.read("DEL", outbox.keys.quarantine_turn)
    come_due(outbox, ms_ago=PATIENCE_MS)
    assert claim(outbox) == []
    held = sent(Process(outbox, "b").claim())
    assert held.attempts().abandoned == 3
    assert ledger(outbox, "duplicates_possible") == [3]
    assert outbox.read("ZSCORE", outbox.keys.doubtful, event_id) is not None


def test_after_a_delivery_the_lane_is_an_ordinary_one(outbox: Outbox) -> None:
    quarantine(outbox)
    second = put(outbox)
    held = sent(Process(outbox).claim())
    assert outbox.settle(held, lease_ms=0) is None
    assert standing(outbox) == "due"
    assert claim_one(outbox).id == second
    assert audit(outbox).findings == []


def test_a_caller_that_goes_on_with_the_lane_takes_it_out_of_quarantine(outbox: Outbox) -> None:
    quarantine(outbox)
    put(outbox)
    assert outbox.settle(sent(Process(outbox).claim()), lease_ms=LEASE_MS) is not None
    assert standing(outbox) == "due"


def test_an_attempt_that_ends_brings_the_lane_back_to_the_ordinary_ones(outbox: Outbox) -> None:
    event_id = quarantine(outbox)
    held = sent(Process(outbox).claim())
    assert retry(outbox, held, Tried(event_id, 1, 1, 1, 2, "answered 500"), delay_ms=LATER_MS)
    assert standing(outbox) == "due"
    assert (due_in(outbox) or 0) > LATER_MS / 2


def test_a_lane_that_is_given_back_untried_stays_in_quarantine(outbox: Outbox) -> None:
    quarantine(outbox)
    process = Process(outbox)
    assert outbox.release(sent(process.claim()))
    assert standing(outbox) == "quarantine"
    come_due(outbox, ms_ago=PATIENCE_MS)
    outbox.unclaim(sent(process.claim()).token)
    assert standing(outbox) == "quarantine"
    come_due(outbox, ms_ago=PATIENCE_MS)
    assert sent(process.claim()).attempts().abandoned == 2


def test_a_buried_event_leaves_quarantine_and_its_lane_goes_on(outbox: Outbox) -> None:
    event_id = quarantine(outbox)
    second = put(outbox)
    bury(outbox, sent(Process(outbox).claim()), lease_ms=0)
    assert (standing(outbox), claim_one(outbox).id) == ("due", second)
    assert replay(outbox, event_id) == b"REPLAYED"
    assert books(outbox) == {"accepted": 2, "delivered": 0, "waiting": 2, "dead": 0, "discarded": 0}


@pytest.mark.parametrize("what", ["seize", "erase", "discard_lane"])
def test_an_operator_takes_an_event_out_of_quarantine(outbox: Outbox, what: str) -> None:
    quarantine(outbox)
    if what == "seize":
        seized = outbox.seize(ALICE, "operator", lease_ms=LEASE_MS)
        assert seized is not None
        assert standing(outbox) == "quarantine"
        bury(outbox, seized, lease_ms=0)
    elif what == "erase":
        erase(outbox)
    else:
        outbox._run("discard_lane", lane=str(ALICE), last_seq=9)
    assert standing(outbox) == ""
    assert audit(outbox).findings == []


@pytest.mark.parametrize("what", ["erase", "discard_lane"])
def test_an_event_that_is_being_sent_from_quarantine_is_not_taken_away(outbox: Outbox, what: str) -> None:
    quarantine(outbox)
    held = sent(Process(outbox).claim())
    arguments: dict[str, Any] = {"last_seq": 9} if what == "discard_lane" else {}
    assert outbox._run(what, lane=str(ALICE), **arguments)[0] == b"SENDING"
    assert outbox.settle(held, lease_ms=0) is None
    assert books(outbox)["delivered"] == 1


def test_an_operators_claim_that_finds_the_second_crash_puts_the_lane_into_quarantine(outbox: Outbox) -> None:
    put(outbox)
    crash(outbox)
    assert outbox.seize(ALICE, "operator", lease_ms=LEASE_MS) is not None
    assert standing(outbox) == "quarantine"
    assert audit(outbox).findings == []
    come_due(outbox, ms_ago=PATIENCE_MS)
    assert sent(Process(outbox).claim()).attempts().abandoned == 3


# Pauses and rates


def test_an_app_that_an_operator_paused_sends_nothing_from_quarantine(outbox: Outbox) -> None:
    quarantine(outbox)
    outbox.pause("shop")
    process = Process(outbox)
    assert process.claim() is None
    assert not outbox.look(60_000)[0]
    outbox.resume("shop")
    sent(process.claim())


def test_an_app_that_the_circuit_breaker_paused_sends_nothing_from_quarantine(outbox: Outbox) -> None:
    quarantine(outbox)
    trip(outbox)
    for number in range(3):
        come_due(outbox, lane_of(number))
    process = Process(outbox)
    assert process.claim() is None
    pause_elapses(outbox)
    assert process.claim() is None, "another event is due, so it is the probe"
    assert claim_one(outbox).probe


def test_a_quarantined_event_is_the_probe_when_nothing_else_is_due(outbox: Outbox) -> None:
    quarantine(outbox)
    trip(outbox)
    for number in range(3):
        outbox.read("ZADD", outbox.keys.due("shop"), NEVER, str(lane_of(number)))
    pause_elapses(outbox)
    held = sent(Process(outbox).claim())
    assert held.probe
    assert guard_state(outbox)["probe"] == str(ALICE)
    assert open_in(outbox) > 0, "one probe at a time"
    outbox.settle(held, lease_ms=0)
    assert "since" not in guard_state(outbox)


def test_the_small_start_after_an_outage_limits_quarantine_too(outbox: Outbox) -> None:
    for lane in (ALICE, BOB, Lane("shop", "v", "carol")):
        quarantine(outbox, lane)
    outbox.resume("shop")  # a start with two
    process = Process(outbox)
    assert [process.claim() is None for _ in range(3)] == [False, False, True]


# What else waits


def test_a_quarantined_event_waits_for_what_its_guest_did_before_the_login(outbox: Outbox) -> None:
    put(outbox, ALICE)
    crash(outbox)
    assert claim(outbox) == []
    put(outbox, GUEST)
    put(outbox, ALICE, guest_uid=GUEST.uid)
    bury(outbox, sent_now(outbox, Process(outbox)), lease_ms=0)
    guest = claim_one(outbox)
    assert guest.lane == str(GUEST)
    outbox.read("HSET", outbox.keys.trying, str(ALICE), Tried(head(outbox), 0, 2, 1, 1).pack())
    outbox.read("ZREM", outbox.keys.due("shop"), str(ALICE))
    outbox.read("ZADD", outbox.keys.quarantine("shop"), 1, str(ALICE))
    outbox.read("ZADD", outbox.keys.quarantine_apps, 1, "shop")
    process = Process(outbox)
    assert process.claim() is None
    assert (due_in(outbox) or 0) > 0
    outbox.settle(guest, lease_ms=0)
    assert (due_in(outbox) or 0) <= 0
    assert sent_now(outbox, process).lane == str(ALICE)


def sent_now(outbox: Outbox, process: Process) -> Claim:
    """Alice's event from quarantine, as if it had been due for long enough."""
    come_due(outbox, ms_ago=PATIENCE_MS)
    return sent(process.claim())


def head(outbox: Outbox, lane: Lane = ALICE) -> bytes:
    """The id of the lane's first event."""
    record: bytes = outbox.read("LINDEX", outbox.keys.lane(lane), 0)
    return record[17:33]


def test_a_record_of_a_newer_version_waits_in_quarantine_for_a_newer_worker(outbox: Outbox) -> None:
    quarantine(outbox)
    data = outbox.read("LINDEX", outbox.keys.lane(ALICE), 0)
    outbox.read("LSET", outbox.keys.lane(ALICE), 0, b"\x63" + data[1:])
    process = Process(outbox)
    assert process.claim() is None
    assert standing(outbox) == "quarantine"
    assert (due_in(outbox) or 0) > 0
    assert outbox.read("ZRANGE", outbox.keys.newer, 0, -1) == [str(ALICE).encode()]
    assert 0 < outbox.read("PTTL", outbox.keys.newer) <= 600_000
    outbox.read("LSET", outbox.keys.lane(ALICE), 0, data)
    assert sent_now(outbox, process).id == data[17:33]


def test_a_pump_hears_of_quarantine_when_a_process_may_take_the_turn_and_the_watchdog_never_does(
    outbox: Outbox,
) -> None:
    quarantine(outbox, ms_ago=0)
    assert outbox.look(60_000) == (False, 0)
    come_due(outbox, ms_ago=3_600_000)
    assert outbox.look(60_000) == (True, 0)
    outbox.read("DEL", outbox.keys.hint)
    process = Process(outbox)
    assert process.claim(idle=False) is None
    assert outbox.look(60_000) == (False, 0), "a process has the turn"
    outbox.read("DEL", outbox.keys.wake)
    process.turn.leave()
    assert outbox.read("LLEN", outbox.keys.wake) == 1
    assert outbox.look(60_000) == (True, 0)


def test_a_pump_hears_of_quarantine_behind_many_apps_from_which_nothing_can_be_claimed(outbox: Outbox) -> None:
    quarantine(outbox)
    others = [item for number in range(64) for item in (0, f"app-{number:02}")]
    outbox.read("ZADD", outbox.keys.quarantine_apps, *others)
    assert outbox.look(60_000) == (True, 0)
    process = Process(outbox)
    assert [claimed.lane for _ in range(2) if (claimed := process.claim())] == [str(ALICE)]


def test_a_step_back_of_the_clock_does_not_keep_an_event_in_quarantine(outbox: Outbox) -> None:
    quarantine(outbox, ALICE)
    quarantine(outbox, BOB)
    held = sent(Process(outbox).claim())
    for lane in (ALICE, BOB):
        come_due(outbox, lane, ms_ago=-3_600_000)
    assert ClockSteps(outbox).pull_back().lanes == 2
    in_ms = due_in(outbox, Lane.parse(held.lane))
    assert in_ms is not None
    assert LEASE_MS < in_ms < 3_600_000, "its POST can end first"
    assert (due_in(outbox, BOB if held.lane == str(ALICE) else ALICE) or 0) <= 0


def test_a_turn_that_a_step_back_of_the_clock_has_made_longer_than_a_lease_ends(outbox: Outbox) -> None:
    """The time to live of a key ends at a moment of Redis's clock; its process may have died before the step."""
    quarantine(outbox, ALICE)
    dead, next_one = Process(outbox, "a"), Process(outbox, "b")
    assert dead.claim(idle=False) is None
    assert ClockSteps(outbox).pull_back() == NOTHING_AHEAD
    assert next_one.claim(idle=False) is None
    assert not next_one.turn.held, "the turn of a process that may live goes on"
    outbox.read("PEXPIRE", outbox.keys.quarantine_turn, 3_600_000)
    ClockSteps(outbox).pull_back()
    assert sent(next_one.claim()).lane == str(ALICE)


def test_bystanders_of_two_crashes_are_sent_one_by_one_while_new_events_come_and_their_lanes_go_on(
    outbox: Outbox,
) -> None:
    bystanders = [Lane("shop", "v", f"{number}") for number in range(12)]
    for lane in bystanders:
        put(outbox, lane)
    killed_twice(outbox, bystanders)
    process = Process(outbox)
    delivered = []
    for number in range(100):
        put(outbox, Lane("shop", "v", f"new-{number}"))
        for held in claim(outbox):
            outbox.settle(held, lease_ms=0)
        for lane in bystanders:
            come_due(outbox, lane, ms_ago=PATIENCE_MS)
        if (quarantined := process.claim()) is not None:
            delivered.append(quarantined.lane)
            outbox.settle(quarantined, lease_ms=0)
    assert sorted(delivered) == sorted(map(str, bystanders))
    for lane in bystanders:
        put(outbox, lane)
    assert len(claim(outbox)) == len(bystanders)


def test_a_token_of_this_process_names_its_turn(outbox: Outbox) -> None:
    quarantine(outbox)
    turn = QuarantineTurn(outbox, "host:1")
    assert turn.claim(lease_ms=LEASE_MS, idle=True) is not None
    assert outbox.read("GET", outbox.keys.quarantine_turn) == new_token()[:32]
    turn.leave()
    assert outbox.read("GET", outbox.keys.quarantine_turn) is None
