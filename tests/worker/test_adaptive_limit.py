"""How many POSTs may be under way: found by what the tracker answers, and by how quickly."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable

import pytest

from insend_relay.worker.adaptive_limit import CAP_SECONDS, INITIAL_LIMIT, PROBE_SECONDS, AdaptiveLimit, Call
from insend_relay.worker.outcome import CUT, Outcome

Seconds = Callable[[random.Random], float]


class Tracker:
    """Answers all that is under way, round by round, and the clock goes on.

    Args:
        most: INSEND_CONCURRENCY.
        seconds: How late it answers.
        at_once: How many it works on at a time; the others wait for their turn.
    """

    def __init__(self, most: int, seconds: float = 0.01, at_once: int = 1_000_000) -> None:
        self.now = 1_000 * PROBE_SECONDS
        self.seconds, self.at_once = seconds, at_once
        self.adaptive = AdaptiveLimit(most, lambda: self.now, lambda: self.now)

    @property
    def limit(self) -> int:
        """What has been found."""
        return self.adaptive.limit

    def begin(self) -> list[Call]:
        """As many calls as there may be."""
        self.adaptive.tick()
        number = self.limit
        return [self.adaptive.begin(limited=begun == number) for begun in range(1, number + 1)]

    def answer(self, calls: list[Call], *, full: bool = False) -> int:
        """So many at a time, and so all of them; the limit then. The house begins to empty with the first."""
        for first in range(0, len(calls), self.at_once):
            self.now += self.seconds
            for call in calls[first : first + self.at_once]:
                self.adaptive.answered(call, limited=full and call is calls[0])
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
        self.adaptive.dropped(calls[0])


def test_it_starts_small_and_doubles_with_each_round_up_to_the_most() -> None:
    tracker = Tracker(100)
    assert [tracker.limit, *tracker.rounds(4)] == [INITIAL_LIMIT, 32, 64, 100, 100]


def test_a_small_most_is_kept_from_the_start() -> None:
    tracker = Tracker(4)
    assert [tracker.limit, tracker.round()] == [4, 4]


def test_it_does_not_rise_while_there_is_room() -> None:
    tracker = Tracker(100)
    calls = [tracker.adaptive.begin(limited=False) for _ in range(INITIAL_LIMIT - 1)]
    assert tracker.answer(calls) == INITIAL_LIMIT


def test_a_call_counts_when_the_house_was_full_at_some_moment_while_it_was_under_way() -> None:
    tracker = Tracker(100)
    early = [tracker.adaptive.begin(limited=False) for _ in range(INITIAL_LIMIT - 1)]
    last = tracker.adaptive.begin(limited=True)
    tracker.adaptive.begin(limited=False)  # when there was room again
    tracker.answer([*early, last])  # one after the other, so that there is room from the first answer on
    assert tracker.limit == 2 * INITIAL_LIMIT
    assert tracker.answer([tracker.adaptive.begin(limited=False) for _ in range(INITIAL_LIMIT)]) == 2 * INITIAL_LIMIT


def test_too_much_halves_it_once_for_all_that_were_under_way_and_then_it_rises_by_one_a_round() -> None:
    tracker = Tracker(64)
    tracker.rounds(2)
    calls = tracker.begin()
    for call in calls[:32]:
        tracker.adaptive.dropped(call)
    assert tracker.limit == 32
    assert tracker.answer(calls[32:], full=True) == 32  # begun before: says nothing of half as many
    assert tracker.rounds(3) == [32, 33, 34]


def test_a_tracker_that_takes_nothing_halves_it_once_only() -> None:
    tracker = Tracker(64)
    tracker.round()
    for _ in range(10):
        tracker.adaptive.dropped(tracker.adaptive.begin(limited=True))
    assert tracker.limit == INITIAL_LIMIT


def test_it_never_falls_below_one() -> None:
    tracker = Tracker(2)
    for _ in range(5):
        tracker.too_much()
    assert tracker.limit == 1


class Crowd:
    """Processes that begin a call whenever they may, at a tracker that takes them in turn.

    Args:
        number: How many processes.
        seconds: How long the tracker works on a call; asked for each.
        at_once: On how many at a time.
        gives_up: After how many seconds a call has failed.
        most: INSEND_CONCURRENCY.

    Attributes:
        under_way: How many calls each process has under way.
        answered: How many have been answered.
        late: How many have failed.
    """

    def __init__(
        self,
        number: int,
        seconds: Callable[[], float],
        at_once: int = 100_000,
        *,
        gives_up: float = math.inf,
        most: int = 2048,
    ) -> None:
        self.now = 1_000 * PROBE_SECONDS
        self.seconds = seconds
        self.answered = self.late = 0
        self._most = most
        self.processes = [self._process(self._booted(index)) for index in range(number)]
        self._free_at = [self.now] * at_once  # a heap, as the next
        self._gives_up = gives_up
        self._ends: list[tuple[float, int, int, Call]] = []
        self.under_way = [0] * number
        self._begun = 0

    def _process(self, booted: float) -> AdaptiveLimit:
        """On a machine whose clocks began at another time; what the wall's say is the same."""
        return AdaptiveLimit(self._most, lambda: self.now - booted, lambda: self.now)

    @property
    def limit(self) -> int:
        """Of all of them."""
        return sum(process.limit for process in self.processes)

    def weaken(self, at_once: int) -> None:
        """The tracker works on fewer at a time from now on."""
        self._free_at = self._free_at[:at_once]

    def go_on(self, seconds: float) -> None:
        """For so long."""
        end = self.now + seconds
        while self.now < end:
            for index, process in enumerate(self.processes):
                process.tick()
                while self.under_way[index] < process.limit:
                    self._begin(index, process)
            self.now, _, index, call = heapq.heappop(self._ends)
            self._end(index, call)

    def _begin(self, index: int, process: AdaptiveLimit) -> None:
        self.under_way[index] += 1
        self._begun += 1
        done_at = max(self.now, self._free_at[0]) + self.seconds()
        heapq.heapreplace(self._free_at, done_at)
        call = process.begin(limited=self.under_way[index] >= process.limit)
        heapq.heappush(self._ends, (min(done_at, self.now + self._gives_up), self._begun, index, call))

    def _end(self, index: int, call: Call) -> None:
        process, late = self.processes[index], self.now >= self._booted(index) + call.began_at + self._gives_up
        if late:
            self.late += 1
            process.dropped(call)
        else:
            self.answered += 1
            process.answered(call, limited=self.under_way[index] >= process.limit)
        self.under_way[index] -= 1

    @staticmethod
    def _booted(index: int) -> float:
        return 3.7 * index


@pytest.mark.parametrize("number", [1, 4, 16])
@pytest.mark.parametrize(("seconds", "at_once"), [(0.01, 10), (0.002, 2), (0.05, 50), (0.05, 5), (0.4, 100)])
def test_a_weak_tracker_gets_all_that_it_can_work_on_and_little_more(number: int, seconds: float, at_once: int) -> None:
    crowd = Crowd(number, lambda: seconds, at_once)
    most = at_once * max(0.1 / seconds, 1.5)  # more than that can be seen to wait
    for _ in range(65):
        crowd.go_on(2)
        assert crowd.limit <= max(4 * most, 4 * number * INITIAL_LIMIT)
    assert crowd.answered >= 0.9 * 130 * at_once / seconds


@pytest.mark.parametrize(
    "seconds",
    [
        lambda chances: chances.expovariate(1 / 0.5),
        lambda chances: chances.choice((0.2, 0.8)),
        lambda chances: chances.lognormvariate(-1.2, 1),
        lambda chances: 2.0 if chances.random() < 0.1 else 0.05,
        lambda chances: chances.uniform(7, 14),
        lambda _: 0.9,
    ],
    ids=["exponential", "two", "lognormal", "some", "slow", "constant"],
)
def test_a_strong_tracker_whose_answers_take_longer_and_shorter_gets_the_most(seconds: Seconds) -> None:
    chances = random.Random(1)
    crowd = Crowd(1, lambda: seconds(chances), most=256)
    crowd.go_on(200)
    answered = crowd.answered
    crowd.go_on(100)
    mean = sum(seconds(chances) for _ in range(10_000)) / 10_000
    assert crowd.answered - answered >= 0.7 * 100 * 256 / mean


def test_a_tracker_that_has_become_weak_is_found_out() -> None:
    crowd = Crowd(2, lambda: 0.2, at_once=5_000, gives_up=15)
    crowd.go_on(30)
    assert crowd.limit == 2 * 2048
    crowd.weaken(20)  # of 25,000 a second are left 100
    crowd.go_on(3 * PROBE_SECONDS)
    late = crowd.late
    crowd.go_on(2 * PROBE_SECONDS)
    assert crowd.late == late
    assert crowd.limit < 500


def test_a_tracker_that_takes_some_and_lets_the_others_hang_is_not_overrun_again_and_again() -> None:
    crowd = Crowd(1, lambda: 0.05, gives_up=15)
    crowd.seconds = lambda: 0.05 if crowd.under_way[0] <= 50 else 60.0
    crowd.go_on(10 * PROBE_SECONDS)
    assert crowd.late < 25 * 10 * PROBE_SECONDS


def test_a_slow_tracker_that_is_as_slow_for_one_as_for_many_gets_the_most() -> None:
    tracker = Tracker(2048, seconds=1.5)
    assert tracker.rounds(7)[-1] == 2048


def test_some_slow_answers_among_many_quick_ones_do_not_stop_it() -> None:
    tracker = Tracker(100)
    while tracker.limit < 100:
        before, calls = tracker.limit, tracker.begin()
        tracker.answer(calls[1:])
        tracker.now += 1
        tracker.adaptive.answered(calls[0], limited=False)
        assert tracker.limit > before


def test_what_nothing_holds_down_does_not_fall() -> None:
    tracker = Tracker(2048, seconds=0.2)
    tracker.rounds(10)
    for _ in range(10):
        tracker.until(PROBE_SECONDS / 2)
        assert tracker.limit == 2048


@pytest.mark.parametrize("most", [8, 64, 2048])
def test_what_is_held_down_falls_to_an_eighth_and_rises_again_in_three_rounds(most: int) -> None:
    tracker = Tracker(most, seconds=0.05)
    tracker.rounds(8)
    assert tracker.limit == most
    tracker.seconds = 0.4
    tracker.round()
    calls = tracker.begin()
    tracker.now += PROBE_SECONDS
    tracker.adaptive.tick()
    low = min(most, max(INITIAL_LIMIT, most // 8))
    assert tracker.answer(calls) == low  # whatever the calls that began before have to say
    assert tracker.rounds(5)[-1] == most


def test_all_processes_on_all_machines_fall_at_the_same_moment() -> None:
    crowd = Crowd(5, lambda: 0.4, at_once=100)
    crowd.go_on(2 * PROBE_SECONDS - crowd.now % PROBE_SECONDS - 1)
    limits = [process.limit for process in crowd.processes]
    assert min(limits) > INITIAL_LIMIT
    crowd.go_on(1.1)
    assert [process.limit for process in crowd.processes] == [max(INITIAL_LIMIT, limit // 8) for limit in limits]


def test_a_burst_after_a_quiet_time_starts_small() -> None:
    tracker = Tracker(2048)
    tracker.rounds(10)
    tracker.now += 60 * PROBE_SECONDS
    assert len(tracker.begin()) == 2048 // 8


def test_a_tracker_that_has_become_slower_is_found_out_anew() -> None:
    tracker = Tracker(2048, seconds=0.05)
    tracker.rounds(3)
    tracker.seconds = 0.4
    limit = tracker.limit
    tracker.rounds(5)
    assert tracker.limit == limit  # as if it were overrun
    tracker.until(2 * PROBE_SECONDS)
    assert tracker.limit == 2048


@pytest.mark.parametrize(("seconds", "minutes"), [(0.2, 6), (5, 16)])
def test_a_short_trouble_is_made_good_within_minutes(seconds: float, minutes: int) -> None:
    tracker = Tracker(2048, seconds=seconds)
    tracker.rounds(8)
    for _ in range(6):
        tracker.too_much()
    assert tracker.limit == 32
    tracker.until(minutes * PROBE_SECONDS)
    assert tracker.limit > 1024


def test_a_tracker_of_many_seconds_gets_the_most_though_it_takes_more_than_a_minute() -> None:
    assert Tracker(2048, seconds=14).rounds(8)[-1] == 2048


def test_what_was_regained_step_by_step_is_not_lost_by_falling() -> None:
    tracker = Tracker(2048, seconds=0.2)
    tracker.rounds(8)
    for _ in range(6):
        tracker.too_much()
    tracker.until(2 * PROBE_SECONDS)
    before = tracker.limit
    assert before > 1.5 * 32
    tracker.now += PROBE_SECONDS  # a quiet minute
    tracker.adaptive.tick()
    tracker.until(2)
    assert tracker.limit > before


def test_a_call_from_before_the_fall_that_fails_halves_what_the_limit_was_then() -> None:
    tracker = Tracker(2048, seconds=0.05)
    tracker.rounds(8)
    hung = tracker.begin()
    tracker.now += 2 * PROBE_SECONDS
    tracker.adaptive.tick()
    assert tracker.limit == 256
    tracker.adaptive.answered(hung[0], limited=False)
    for call in hung[1:]:
        tracker.adaptive.dropped(call)
    assert tracker.limit == 256
    tracker.rounds(4)
    assert tracker.limit in range(1024, 1030)  # from there slowly


def test_calls_that_end_otherwise_hold_up_no_round() -> None:
    tracker = Tracker(2048, seconds=0.2)
    for seconds in (0.2, 0.2, 0.2, 1):
        tracker.seconds, limit = seconds, tracker.limit
        calls = tracker.begin()
        for call in calls[: len(calls) // 2]:
            tracker.adaptive.ignored(call)
        tracker.answer(calls[len(calls) // 2 :], full=True)
        assert (tracker.limit > limit) == (seconds < 1)


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


def test_the_connections_that_are_open_are_the_limit_when_no_further_one_can_be_opened() -> None:
    tracker = Tracker(64)
    tracker.round()
    calls = tracker.begin()
    for call in calls[20:]:
        tracker.adaptive.ignored(call)
        tracker.adaptive.cap(20)
    assert tracker.answer(calls[:20], full=True) == 20
    ends = tracker.now + CAP_SECONDS
    while tracker.now < ends - 1:
        tracker.begin()
        assert tracker.round() == 20
    tracker.now = ends
    assert tracker.rounds(3)[-1] in {21, 22}, "then it is tried again, one by one"


def test_one_connection_is_enough_to_go_on() -> None:
    tracker = Tracker(64)
    tracker.adaptive.ignored(tracker.begin()[0])
    tracker.adaptive.cap(0)
    assert tracker.limit == 1
