"""How many POSTs may be under way: found by what the tracker answers, and by how quickly."""

from __future__ import annotations

import heapq

import pytest

from insend_relay.worker.concurrency import ANEW_MOST_SECONDS, ANEW_SECONDS, FIRST, Call, Concurrency
from insend_relay.worker.outcome import CUT, Outcome


class Tracker:
    """Answers all that is under way, round by round, and the clock goes on.

    Args:
        most: INSEND_CONCURRENCY.
        seconds: How late it answers.
        at_once: How many it works on at a time; the others wait for their turn.
    """

    def __init__(self, most: int, seconds: float = 0.01, at_once: int = 1_000_000) -> None:
        self.now = 1_000 * ANEW_MOST_SECONDS
        self.seconds, self.at_once = seconds, at_once
        self.concurrency = Concurrency(most, lambda: self.now)

    @property
    def limit(self) -> int:
        """What has been found."""
        return self.concurrency.limit

    def begin(self) -> list[Call]:
        """As many calls as there may be."""
        number = self.limit
        return [self.concurrency.begin(full=begun == number) for begun in range(1, number + 1)]

    def answer(self, calls: list[Call], *, full: bool = False) -> int:
        """So many at a time, and so all of them; the limit then. The house begins to empty with the first."""
        for first in range(0, len(calls), self.at_once):
            self.now += self.seconds
            for call in calls[first : first + self.at_once]:
                self.concurrency.went_well(call, full=full and call is calls[0])
        return self.limit

    def round(self) -> int:
        """As many as there may be, begun together and answered; the limit then."""
        return self.answer(self.begin(), full=True)

    def rounds(self, number: int) -> list[int]:
        """The limit after each of so many rounds."""
        return [self.round() for _ in range(number)]

    def until(self, seconds: float) -> None:
        """Rounds until so much time has passed."""
        end = self.now + seconds
        while self.now < end:
            self.round()

    def too_much(self) -> None:
        """A round of which one is told that it is too much."""
        calls = self.begin()
        self.answer(calls[1:])
        self.concurrency.was_too_much(calls[0])


def test_it_starts_small_and_doubles_with_each_round_up_to_the_most() -> None:
    tracker = Tracker(100)
    assert [tracker.limit, *tracker.rounds(4)] == [FIRST, 32, 64, 100, 100]


def test_a_small_most_is_kept_from_the_start() -> None:
    tracker = Tracker(4)
    assert [tracker.limit, tracker.round()] == [4, 4]


def test_it_does_not_rise_while_there_is_room() -> None:
    tracker = Tracker(100)
    calls = [tracker.concurrency.begin(full=False) for _ in range(FIRST - 1)]
    assert tracker.answer(calls) == FIRST


def test_a_call_counts_when_the_house_was_full_at_some_moment_while_it_was_under_way() -> None:
    tracker = Tracker(100)
    early = [tracker.concurrency.begin(full=False) for _ in range(FIRST - 1)]
    last = tracker.concurrency.begin(full=True)
    tracker.answer([*early, last])  # one after the other, so that there is room from the first answer on
    assert tracker.limit == 2 * FIRST
    assert tracker.answer([tracker.concurrency.begin(full=False) for _ in range(FIRST)]) == 2 * FIRST


def test_too_much_halves_it_once_for_all_that_were_under_way_and_then_it_rises_by_one_a_round() -> None:
    tracker = Tracker(64)
    tracker.rounds(2)
    calls = tracker.begin()
    for call in calls[:32]:
        tracker.concurrency.was_too_much(call)
    assert tracker.limit == 32
    assert tracker.answer(calls[32:], full=True) == 32  # begun before: says nothing of half as many
    assert tracker.rounds(3) == [32, 33, 34]


def test_a_tracker_that_takes_nothing_halves_it_once_only() -> None:
    tracker = Tracker(64)
    tracker.round()
    for _ in range(10):
        tracker.concurrency.was_too_much(tracker.concurrency.begin(full=True))
    assert tracker.limit == FIRST


def test_it_never_falls_below_one() -> None:
    tracker = Tracker(2)
    for _ in range(5):
        tracker.too_much()
    assert tracker.limit == 1


class Crowd:
    """Processes that begin a call whenever they may, at a tracker that takes them in turn.

    Args:
        number: How many processes.
        seconds: How long the tracker works on a call.
        at_once: On how many at a time.
    """

    def __init__(self, number: int, seconds: float, at_once: int) -> None:
        self.now = 1_000 * ANEW_MOST_SECONDS
        self.processes = [Concurrency(2048, lambda: self.now) for _ in range(number)]
        self.answered = 0
        self._seconds = seconds
        self._free_at = [self.now] * at_once  # a heap, as the next
        self._under_way: list[tuple[float, int, int, Call]] = []
        self._counts = [0] * number
        self._begun = 0

    @property
    def limit(self) -> int:
        """Of all of them."""
        return sum(process.limit for process in self.processes)

    def go_on(self, seconds: float) -> None:
        """For so long."""
        end = self.now + seconds
        while self.now < end:
            for index, process in enumerate(self.processes):
                while self._counts[index] < process.limit:
                    self._begin(index, process)
            self.now, _, index, call = heapq.heappop(self._under_way)
            process = self.processes[index]
            process.went_well(call, full=self._counts[index] >= process.limit)
            self._counts[index] -= 1
            self.answered += 1

    def _begin(self, index: int, process: Concurrency) -> None:
        self._counts[index] += 1
        self._begun += 1
        done_at = max(self.now, self._free_at[0]) + self._seconds
        heapq.heapreplace(self._free_at, done_at)
        call = process.begin(full=self._counts[index] >= process.limit)
        heapq.heappush(self._under_way, (done_at, self._begun, index, call))


@pytest.mark.parametrize("number", [1, 4])
@pytest.mark.parametrize(("seconds", "at_once"), [(0.01, 10), (0.002, 2), (0.05, 50), (0.05, 5), (0.4, 100)])
def test_a_weak_tracker_gets_all_that_it_can_work_on_and_little_more(number: int, seconds: float, at_once: int) -> None:
    crowd = Crowd(number, seconds, at_once)
    most = at_once * max(0.1 / seconds, 1.5)  # more than that can be seen to wait
    for _ in range(40):  # looks anew among them
        crowd.go_on(1)
        assert crowd.limit <= max(2.5 * most, 4 * number * FIRST)
    assert crowd.answered >= 0.9 * 40 * at_once / seconds


def test_a_slow_tracker_that_is_as_slow_for_one_as_for_many_gets_the_most() -> None:
    tracker = Tracker(2048, seconds=1.5)
    assert tracker.rounds(7)[-1] == 2048


def test_some_slow_answers_among_many_quick_ones_do_not_stop_it() -> None:
    tracker = Tracker(100)
    while tracker.limit < 100:
        before, calls = tracker.limit, tracker.begin()
        tracker.answer(calls[1:])
        tracker.now += 1
        tracker.concurrency.went_well(calls[0], full=False)
        assert tracker.limit > before


@pytest.mark.parametrize("most", [8, 64, 2048])
def test_every_while_it_falls_to_an_eighth_and_rises_again_in_three_rounds(most: int) -> None:
    tracker = Tracker(most, seconds=0.05)
    tracker.rounds(8)
    assert tracker.limit == most
    tracker.now += ANEW_SECONDS
    calls = tracker.begin()
    low = min(most, max(FIRST, most // 8))
    assert tracker.answer(calls) == low  # whatever the calls that began before have to say
    assert tracker.rounds(3)[-1] == most


def test_all_processes_of_a_machine_fall_at_the_same_moment() -> None:
    one, other = Tracker(256), Tracker(256)
    one.rounds(5)
    other.now += 7.3
    other.rounds(5)
    one.now = other.now = 1_000 * ANEW_MOST_SECONDS + ANEW_SECONDS - 0.1
    assert [one.round(), other.round()] == [256, 256]
    one.now = other.now = 1_000 * ANEW_MOST_SECONDS + ANEW_SECONDS + 0.1
    assert [one.round(), other.round()] == [32, 32]


def test_a_tracker_that_has_become_slower_is_found_out_anew() -> None:
    tracker = Tracker(2048, seconds=0.05)
    tracker.rounds(3)
    tracker.seconds = 0.4
    limit = tracker.limit
    tracker.rounds(5)
    assert tracker.limit == limit  # as if it were overrun
    tracker.until(ANEW_SECONDS)
    tracker.until(4)
    assert tracker.limit == 2048


def test_a_short_trouble_is_made_good_within_minutes() -> None:
    tracker = Tracker(2048, seconds=0.2)
    tracker.rounds(8)
    for _ in range(6):
        tracker.too_much()
    assert tracker.limit == 32
    tracker.until(10 * ANEW_SECONDS)
    assert tracker.limit > 1024


def test_what_was_regained_step_by_step_is_not_lost_by_looking_anew() -> None:
    tracker = Tracker(2048, seconds=0.01)
    tracker.rounds(8)
    for _ in range(6):
        tracker.too_much()
    tracker.until(ANEW_SECONDS - tracker.now % ANEW_SECONDS - 0.05)
    before = tracker.limit
    assert before > 1.5 * 32
    tracker.until(1)
    assert tracker.limit > before


def test_a_tracker_of_many_seconds_gets_beyond_the_start() -> None:
    tracker = Tracker(2048, seconds=14)
    limits = tracker.rounds(40)
    assert max(limits) > 1024


@pytest.mark.parametrize(
    ("outcome", "too_much"),
    [
        (Outcome("answered", 200), False),
        (Outcome("answered", 400), False),
        (Outcome("answered", 429), True),
        (Outcome("answered", 503), True),
        (Outcome("unknown", answer="no whole answer within 15 s"), True),
        (Outcome("unknown", answer=CUT), False),
        (Outcome("refused", answer="no such host"), False),
    ],
)
def test_which_outcomes_say_that_it_is_too_much(outcome: Outcome, too_much: bool) -> None:  # noqa: FBT001 - a parameter
    assert outcome.too_much == too_much
