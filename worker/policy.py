"""Whether a failed event is tried again, and when: tenacity decides, the outbox sleeps.

There is one tenacity policy for each kind of failure. tenacity would wait in this process; here its ``stop`` and
``wait`` are asked with a RetryCallState made from what the outbox knows (attempts so far, time since acceptance), and
the wait goes into the lane's schedule, so that no worker slot is held and a restart forgets nothing.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    stop_all,
    wait_exponential,
)
from tenacity.wait import wait_base

from insend_relay.outbox.breaker import BreakerLimits
from insend_relay.outbox.errors import RelayError
from insend_relay.outbox.failed_attempt import Failure
from insend_relay.outbox.settings import Settings
from insend_relay.worker.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from a failed attempt that counts.

    Attributes:
        delay_seconds: The wait before the next attempt.
        burial_reason: When the policy is exhausted, why the event becomes a dead letter: a few words that many letters
            share. Else "".
    """

    delay_seconds: float
    burial_reason: str = ""


class NotDelivered(RelayError):
    """What tenacity sees of a failed attempt.

    Attributes:
        outcome: How the attempt ended.
    """

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__(outcome)

    def __str__(self) -> str:
        return self.outcome.reason


class wait_jittered(wait_base):  # noqa: N801 - named as tenacity names its waits
    """Another wait, with up to ``share`` of it added at random: lanes that failed together come back one by one."""

    def __init__(self, wait: wait_base, share: float) -> None:
        self.wait = wait
        self.share = share

    def __call__(self, retry_state: RetryCallState) -> float:
        """The wait in seconds."""
        return self.wait(retry_state) * (1 + random.uniform(0, self.share))  # noqa: S311 - no secret


class Policy:
    """The four policies of the settings, one for each kind of failure.

    Args:
        settings: The numbers.
    """

    def __init__(self, settings: Settings) -> None:
        exponential = wait_exponential(multiplier=settings.retry_first_seconds, max=settings.retry_max_seconds)
        wait = wait_jittered(exponential, settings.retry_jitter)
        unreachable = stop_all(
            stop_after_attempt(settings.unreachable_attempts), stop_after_delay(settings.unreachable_seconds)
        )
        server = stop_all(
            stop_after_attempt(settings.server_error_attempts), stop_after_delay(settings.server_error_seconds)
        )
        rejected = stop_after_attempt(settings.rejected_attempts)
        # A key that turns wrong right after a 200 is the tracker's trouble, not the event's: the circuit breaker, which
        # takes more failures then, has to have had the time to see it.
        closed = stop_all(rejected, stop_after_delay(settings.outage_calm_seconds))
        self.policies = (
            Retrying(retry=_failed_as("unreachable"), stop=unreachable, wait=wait),
            Retrying(retry=_failed_as("server"), stop=server, wait=wait),
            Retrying(retry=_failed_as("rejected"), stop=rejected, wait=wait),
            Retrying(retry=_failed_as("closed"), stop=closed, wait=wait),
        )

    def decide(self, outcome: Outcome, *, attempts: int, age_seconds: float, tried_seconds: float) -> Decision:
        """What follows from a failed attempt that counts.

        Args:
            outcome: How it ended.
            attempts: How many there were, this one included.
            age_seconds: How long ago the event was accepted.
            tried_seconds: How long ago it was first tried.
        """
        since = tried_seconds if outcome.failure == "closed" else age_seconds
        states = (_state(policy, NotDelivered(outcome), attempts, since) for policy in self.policies)
        state = next(state for state in states if state.retry_object.retry(state))
        policy = state.retry_object
        return Decision(policy.wait(state), outcome.reason if policy.stop(state) else "")


def breaker_limits(settings: Settings) -> BreakerLimits:
    """The circuit breaker's numbers, as the outbox wants them."""
    return BreakerLimits(
        unreachable=settings.outage_unreachable,
        lanes=settings.outage_lanes,
        first_ms=round(settings.outage_first_seconds * 1000),
        max_ms=round(settings.outage_max_seconds * 1000),
        calm_ms=round(settings.outage_calm_seconds * 1000),
        rejected_ms=round(settings.outage_rejected_seconds * 1000),
    )


def _failed_as(*failures: Failure) -> retry_if_exception:
    return retry_if_exception(lambda error: isinstance(error, NotDelivered) and error.outcome.failure in failures)


def _state(policy: Retrying, error: NotDelivered, attempts: int, seconds: float) -> RetryCallState:
    """The state in which tenacity would be, had it tried all the time in this process."""
    state = RetryCallState(retry_object=policy, fn=None, args=(), kwargs={})
    state.attempt_number = attempts
    state.set_exception((type(error), error, None))
    state.start_time = time.monotonic() - seconds
    return state
