"""The wait before a process without a connection dials again: it doubles while others deliver, and only then."""

from __future__ import annotations

from insend_relay.worker.redial import FIRST_SECONDS, MAX_SECONDS, Redial


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def dials_of(redial: Redial, clock: Clock, *, others_deliver: bool, seconds: float = 60.0, burst: int = 1) -> int:
    """How many bursts of dials fail in that time."""
    ends, bursts = clock.now + seconds, 0
    while clock.now < ends:
        bursts += 1
        for _ in range(burst):
            redial.failed()
            if others_deliver:
                redial.others_deliver()
        clock.now = redial.at
    return bursts


def test_in_an_outage_the_wait_stays_short() -> None:
    clock = Clock()
    assert dials_of(Redial(clock), clock, others_deliver=False) == 60 / FIRST_SECONDS


def test_while_others_deliver_a_process_dials_a_few_times_a_minute() -> None:
    clock = Clock()
    assert dials_of(Redial(clock), clock, others_deliver=True) <= 60 / MAX_SECONDS + 4


def test_an_outage_after_that_has_the_short_wait_again() -> None:
    clock = Clock()
    redial = Redial(clock)
    dials_of(redial, clock, others_deliver=True)
    redial.failed()
    assert redial.at == clock.now + FIRST_SECONDS


def test_the_dials_of_one_burst_double_the_wait_once() -> None:
    clock = Clock()
    redial = Redial(clock)
    dials_of(redial, clock, others_deliver=True, seconds=FIRST_SECONDS, burst=16)
    assert redial.at == 100 + 2 * FIRST_SECONDS


def test_an_answer_on_a_new_connection_resets_the_wait() -> None:
    clock = Clock()
    redial = Redial(clock)
    dials_of(redial, clock, others_deliver=True)
    redial.failed()
    redial.others_deliver()
    assert redial.at == clock.now + MAX_SECONDS
    redial.worked()
    assert redial.at <= clock.now
    redial.others_deliver()
    assert redial.at == clock.now + 2 * FIRST_SECONDS


def test_only_the_call_that_makes_the_wait_the_longest_says_so() -> None:
    clock = Clock()
    redial = Redial(clock)
    said = []
    for _ in range(20):
        redial.failed()
        said.append(redial.others_deliver())
        clock.now = redial.at
    assert said.count(True) == 1
