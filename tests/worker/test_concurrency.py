"""How many POSTs may be under way: found by what the tracker answers."""

from __future__ import annotations

import pytest

from insend_relay.worker.concurrency import FIRST, Concurrency
from insend_relay.worker.outcome import CUT, Outcome


def a_round(concurrency: Concurrency, *, full: bool = True) -> int:
    """As many answers as were under way; the limit then."""
    begun = [concurrency.begin() for _ in range(concurrency.limit)]
    for call in begun:
        concurrency.went_well(call, full=full)
    return concurrency.limit


def test_it_starts_small_and_doubles_with_each_round_up_to_the_most() -> None:
    concurrency = Concurrency(100)
    assert [concurrency.limit, *(a_round(concurrency) for _ in range(4))] == [FIRST, 32, 64, 100, 100]


def test_a_small_most_is_kept_from_the_start() -> None:
    concurrency = Concurrency(4)
    assert [concurrency.limit, a_round(concurrency)] == [4, 4]


def test_it_does_not_rise_while_there_is_room() -> None:
    assert a_round(Concurrency(100), full=False) == FIRST


def test_too_much_halves_it_once_for_all_that_were_under_way_and_then_it_rises_by_one_a_round() -> None:
    concurrency = Concurrency(64)
    a_round(concurrency)
    a_round(concurrency)
    begun = [concurrency.begin() for _ in range(64)]
    for call in begun[:32]:
        concurrency.was_too_much(call)
    assert concurrency.limit == 32
    for call in begun[32:]:
        concurrency.went_well(call, full=True)  # begun before: says nothing of half as many
    assert concurrency.limit == 32
    assert [a_round(concurrency) for _ in range(3)] == [32, 33, 34]


def test_a_tracker_that_takes_nothing_halves_it_once_only() -> None:
    concurrency = Concurrency(64)
    a_round(concurrency)
    for _ in range(10):
        concurrency.was_too_much(concurrency.begin())
    assert concurrency.limit == FIRST


def test_it_never_falls_below_one() -> None:
    concurrency = Concurrency(2)
    for _ in range(5):
        concurrency.went_well(concurrency.begin(), full=False)
        concurrency.was_too_much(concurrency.begin())
    assert concurrency.limit == 1


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
