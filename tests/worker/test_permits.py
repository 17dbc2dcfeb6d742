"""Who may post: so many at a time as have been found right, in the order in which they asked."""

from __future__ import annotations

import gevent
import gevent.event
import pytest

from insend_relay.worker.concurrency import Concurrency
from insend_relay.worker.permits import Permits


class Lanes:
    """Lanes that post one after the other, when told to."""

    def __init__(self, most: int) -> None:
        self.concurrency = Concurrency(most)
        self.permits = Permits(self.concurrency)
        self.posting: list[int] = []
        self.begun: list[int] = []
        self._ends = {number: gevent.event.Event() for number in range(10)}

    def begin(self, *numbers: int) -> None:
        """They want to post."""
        for number in numbers:
            gevent.spawn(self._post, number)
        self.settle_down()

    def end(self, *numbers: int) -> None:
        """Their POSTs are answered."""
        for number in numbers:
            self._ends[number].set()
        self.settle_down()

    def settle_down(self) -> None:
        """Until nobody has anything to do."""
        for _ in range(10):
            gevent.sleep(0)

    def _post(self, number: int) -> None:
        self.permits.acquire()
        self.begun.append(number)
        self.posting.append(number)
        self._ends[number].wait()
        self.posting.remove(number)
        self.permits.release()


@pytest.fixture
def lanes() -> Lanes:
    """Two at a time."""
    return Lanes(2)


def test_no_more_post_than_may_and_the_first_to_ask_is_the_first_to_go(lanes: Lanes) -> None:
    lanes.begin(0, 1, 2, 3, 4)
    assert lanes.posting == [0, 1]
    lanes.end(1)
    assert lanes.posting == [0, 2]
    lanes.end(2, 0)
    assert lanes.posting == [3, 4]
    lanes.end(3, 4)
    assert (lanes.begun, lanes.permits.left) == ([0, 1, 2, 3, 4], 2)


def test_nobody_overtakes_who_waits_when_there_come_to_be_more(lanes: Lanes) -> None:
    lanes.concurrency = concurrency = Concurrency(64)
    lanes.permits = Permits(concurrency)
    for _ in range(4):
        concurrency.went_well(concurrency.begin(full=True), full=True)
        concurrency.was_too_much(concurrency.begin(full=True))
    assert concurrency.limit == 1
    lanes.begin(0, 1)
    concurrency.went_well(concurrency.begin(full=True), full=True)
    assert concurrency.limit == 2
    lanes.begin(2)
    lanes.end(0)
    assert lanes.begun == [0, 1, 2]


def test_those_who_wait_count_for_those_who_would_come(lanes: Lanes) -> None:
    lanes.begin(0)
    assert (lanes.permits.left, lanes.permits.exhausted) == (1, False)
    lanes.begin(1, 2)
    assert (lanes.permits.left, lanes.permits.exhausted) == (0, True)
    lanes.end(0)
    assert (lanes.permits.left, lanes.permits.exhausted) == (0, True)


def test_lanes_that_were_claimed_get_what_others_left_meanwhile(lanes: Lanes) -> None:
    assert lanes.permits.left == 2  # so two lanes are claimed, and while Redis answers another lane's next event begins
    lanes.begin(0)
    assert lanes.permits.take(2) == 1
    lanes.begin(1)
    assert lanes.posting == [0]
    assert lanes.permits.take(1) == 0
    lanes.end(0)
    assert lanes.posting == [1]


def test_after_a_halving_none_begins_until_there_are_fewer(lanes: Lanes) -> None:
    lanes.begin(0, 1, 2, 3)
    concurrency = lanes.concurrency
    concurrency.went_well(concurrency.begin(full=True), full=True)
    concurrency.was_too_much(concurrency.begin(full=True))
    assert concurrency.limit == 1
    lanes.end(0)
    assert lanes.posting == [1]
    lanes.end(1)
    assert lanes.posting == [2]
    concurrency.went_well(concurrency.begin(full=True), full=True)
    assert concurrency.limit == 2
    lanes.end(2)
    assert lanes.posting == [3]
