"""Who may post: so many at a time as the limit allows, in the order in which they asked."""

from __future__ import annotations

import gevent
import gevent.event
import pytest

from insend_relay.worker.limiter import Limiter, Slot


class Lanes:
    """Lanes that post one after the other, when told to."""

    def __init__(self, max_slots: int) -> None:
        self.limiter = Limiter(max_slots)
        self.posting: list[int] = []
        self.begun: list[int] = []
        self._ends = {number: gevent.event.Event() for number in range(10)}

    def begin(self, *numbers: int) -> None:
        """They want to post."""
        for number in numbers:
            gevent.spawn(self.post, number, self.limiter.slot())
        self.settle_down()

    def end(self, *numbers: int) -> None:
        """Their POSTs are answered."""
        for number in numbers:
            self._ends[number].set()
        self.settle_down()

    def settle_down(self) -> None:
        """Until there is nothing to do."""
        for _ in range(10):
            gevent.sleep(0)

    def post(self, number: int, slot: Slot) -> None:
        """One lane's event, in the slot that it was given."""
        with slot:
            self.begun.append(number)
            self.posting.append(number)
            self._ends[number].wait()
            self.posting.remove(number)


@pytest.fixture
def lanes() -> Lanes:
    """Two at a time."""
    return Lanes(2)


def decrease_to_one(limiter: Limiter) -> None:
    """One slot is left: 429 answers, with others in between."""
    for _ in range(8):
        if limiter.limit > 1:
            with limiter.slot() as slot:
                slot.answered()
            with limiter.slot() as slot:
                slot.dropped()
    assert limiter.limit == 1


def test_no_more_post_than_may_and_the_first_to_ask_is_the_first_to_go(lanes: Lanes) -> None:
    lanes.begin(0, 1, 2, 3, 4)
    assert lanes.posting == [0, 1]
    lanes.end(1)
    assert lanes.posting == [0, 2]
    lanes.end(2, 0)
    assert lanes.posting == [3, 4]
    lanes.end(3, 4)
    assert (lanes.begun, lanes.limiter.room) == ([0, 1, 2, 3, 4], 2)


def test_a_lane_that_waits_is_not_overtaken_when_the_limit_grows() -> None:
    lanes = Lanes(64)
    decrease_to_one(lanes.limiter)
    growing = lanes.limiter.slot()
    lanes.begin(0, 1)
    assert lanes.begun == []
    with growing as slot:
        slot.answered()  # the limit was reached, so that it grows
        assert lanes.limiter.limit == 2
    lanes.settle_down()
    assert lanes.begun == [0, 1]
    lanes.begin(2)
    lanes.end(0)
    assert lanes.begun == [0, 1, 2]


def test_lanes_that_wait_leave_no_room_for_others(lanes: Lanes) -> None:
    lanes.begin(0)
    assert (lanes.limiter.room, lanes.limiter.full) == (1, False)
    lanes.begin(1, 2)
    assert (lanes.limiter.room, lanes.limiter.full) == (0, True)
    lanes.end(0)
    assert (lanes.limiter.room, lanes.limiter.full) == (0, True)


def test_a_claimed_lane_has_its_place_before_its_greenlet_runs(lanes: Lanes) -> None:
    claimed = [lanes.limiter.slot(), lanes.limiter.slot()]
    assert lanes.limiter.room == 0
    lanes.begin(2)
    assert lanes.begun == []
    for number, slot in enumerate(claimed):
        gevent.spawn(lanes.post, number, slot)
    lanes.settle_down()
    assert lanes.posting == [0, 1]
    lanes.end(0)
    assert lanes.posting == [1, 2]


def test_after_a_halving_none_begins_until_there_are_fewer(lanes: Lanes) -> None:
    with lanes.limiter.slot() as slot:
        slot.answered()
    first, second = lanes.limiter.slot(), lanes.limiter.slot()
    lanes.begin(2, 3)
    with first:
        with second as slot:
            slot.dropped()
            assert lanes.limiter.limit == 1
        lanes.settle_down()
        assert lanes.begun == []
    lanes.settle_down()
    assert lanes.begun == [2]
    lanes.end(2)
    assert lanes.begun == [2, 3]


def test_a_success_frees_its_slot_before_the_block_ends_and_everything_else_at_its_end() -> None:
    for judge in (Slot.success, Slot.answered, Slot.dropped, Slot.ignored, lambda slot: slot.no_connection(1)):
        limiter = Limiter(1)
        with limiter.slot() as slot:
            judge(slot)
            assert limiter.full == (judge is not Slot.success)
        assert not limiter.full


def test_a_block_that_raises_frees_its_slot() -> None:
    limiter = Limiter(1)
    with pytest.raises(ZeroDivisionError), limiter.slot():
        raise ZeroDivisionError
    assert limiter.room == 1


def test_lanes_whose_success_is_being_recorded_are_at_most_twice_as_many_as_slots() -> None:
    limiter = Limiter(2)
    recording = [limiter.slot() for _ in range(2)]
    for slot in recording:
        slot.__enter__().success()
    assert (limiter.room, limiter.full, limiter.lanes) == (2, False, 2)
    recording += [limiter.slot() for _ in range(2)]
    for slot in recording[2:]:
        slot.__enter__().success()
    assert (limiter.room, limiter.full, limiter.exceeded) == (0, True, False)
    recording.append(limiter.slot())
    assert limiter.exceeded
    for slot in recording:
        slot.__exit__()
    assert (limiter.room, limiter.lanes) == (2, 0)
