"""Deadlines of calls that are in flight in one thread: each has its own, whatever becomes of the others."""

from __future__ import annotations

from collections.abc import Callable

import gevent
import gevent.event
from waiting import PATIENCE_SECONDS

from insend_relay.worker.calls import LATE, Calls
from insend_relay.worker.exchange import Ended
from insend_relay.worker.outcome import CUT


def ended(calls: Calls, wait: Callable[[], object]) -> str:
    """Why a call ended that waits so; empty when it ended by itself."""
    call = calls.call()
    try:
        with call:
            wait()
    except Ended:
        assert call.ended
    return call.ended


def for_ever() -> None:
    """As for an answer that does not come."""
    gevent.event.Event().wait()


def why(*greenlets: gevent.Greenlet) -> list[str]:
    """What they return."""
    gevent.joinall(greenlets, timeout=PATIENCE_SECONDS)
    return [greenlet.get() for greenlet in greenlets]


def test_a_call_ends_at_its_own_deadline_although_the_timer_was_set_for_an_earlier_one() -> None:
    calls = Calls(0.1)
    assert why(gevent.spawn(ended, calls, gevent.idle), gevent.spawn(ended, calls, for_ever)) == ["", LATE]


def test_calls_that_reach_their_deadlines_together_all_end() -> None:
    calls = Calls(0.05)
    assert why(*(gevent.spawn(ended, calls, for_ever) for _ in range(20))) == [LATE] * 20


def test_a_call_that_begins_when_another_reaches_its_deadline_has_one_too() -> None:
    calls = Calls(0.05)
    assert why(gevent.spawn(lambda: ended(calls, for_ever) + ended(calls, for_ever))) == [LATE + LATE]


def test_a_call_that_begins_when_all_others_have_ended_has_one_too() -> None:
    calls = Calls(0.05)
    assert why(gevent.spawn(ended, calls, for_ever)) == [LATE]
    assert why(gevent.spawn(ended, calls, for_ever)) == [LATE]


def test_calls_that_are_cut_end_at_once() -> None:
    calls = Calls(PATIENCE_SECONDS)
    in_flight = [gevent.spawn(ended, calls, for_ever) for _ in range(3)]
    gevent.sleep(0)
    calls.cut()
    assert why(*in_flight) == [CUT] * 3
    calls.close()


def test_a_call_that_ends_by_itself_just_before_the_cut_is_not_ended() -> None:
    calls = Calls(PATIENCE_SECONDS)
    answer = gevent.event.Event()
    call = gevent.spawn(lambda: ended(calls, answer.wait) + ended(calls, gevent.idle))
    gevent.sleep(0)
    answer.set()
    calls.cut()
    assert why(call) == [""]
    calls.close()
