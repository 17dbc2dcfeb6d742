"""Faults of Redis's clock: it is set back or forward while POSTs are in flight.

Without ``outbox/clock_steps.py`` a step back stops all delivery for as long as the step. A step forward ends all leases
at once, so that events in flight are sent a second time: these must have been marked by then.
"""

from __future__ import annotations

import time

from chaos_fault import Fault, fault
from chaos_run import Run

from insend_relay.outbox.connection import connect

STEPS = {"a minute": 60, "an hour": 3_600}


def _step(words: str, seconds: int) -> Fault:
    def act(run: Run) -> None:
        run.tracker.mode = "slow"
        before = run.sender.new_visitors(20)
        time.sleep(0.2)  # what the producers send is in flight as well
        was = _clock(run)
        run.redis.step(seconds)
        if abs(_clock(run) - was - seconds) > 30:
            run.wrong.append("libfaketime does not step the clock of this Redis, so nothing was tried")
        run.must_deliver(before + run.sender.new_visitors(), f"after Redis's clock was set {words}")
        run.tracker.mode = "ok"

    return act


def _clock(run: Run) -> int:
    with connect(run.redis.url, timeout_seconds=30) as client:
        return int(client.time()[0])


for _how_far, _seconds in STEPS.items():
    fault(f"redis: clock set back {_how_far}")(_step(f"back {_how_far}", -_seconds))
    fault(f"redis: clock set forward {_how_far}")(_step(f"forward {_how_far}", _seconds))
