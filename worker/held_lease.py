"""A lane's lease as its holder sees it: how much of it is left, and how an outcome is written while it lasts.

Every write of an outcome is safe to repeat, so a Redis that is away for a moment is waited for while the lease lasts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import gevent
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_exponential
from tenacity.stop import stop_base

from insend_relay.outbox.claim import Claim
from insend_relay.outbox.errors import OutboxUnreachable
from insend_relay.worker.stop import Stop

T = TypeVar("T")
FIRST_PAUSE_SECONDS = 0.05  # while Redis is away; it doubles
MAX_PAUSE_SECONDS = 1.0


class HeldLease:
    """The lease of one lane, from its claim on.

    Args:
        claim: The claim.
        claimed_at: When it was made, on the monotonic clock: before Redis was asked, to be on the safe side.
        seconds: How long a lease lasts.
        stop: Ends the waiting for Redis when the process can wait no longer.

    Attributes:
        began_at: When the lease began, on the monotonic clock.
    """

    __slots__ = ("_claimed_at", "_now_ms", "_seconds", "_stop", "_written_at", "began_at")

    def __init__(self, claim: Claim, claimed_at: float, seconds: float, stop: Stop) -> None:
        self._now_ms, self._claimed_at = claim.now_ms, claimed_at
        self._seconds = seconds
        self._stop = stop
        self.began_at = self._written_at = claimed_at

    @property
    def left_seconds(self) -> float:
        """How much of it is left."""
        return self.began_at + self._seconds - time.monotonic()

    @property
    def now_ms(self) -> int:
        """Redis's clock, as far as it is known here."""
        return self._now_ms + round((time.monotonic() - self._claimed_at) * 1000)

    @property
    def whole_ms(self) -> int:
        """How long a lease lasts, as the outbox wants it."""
        return round(self._seconds * 1000)

    def renew(self) -> None:
        """The last write has leased the lane for its next event, from when it was sent."""
        self.began_at = self._written_at

    def write(self, write: Callable[[], T]) -> T:
        """Write an outcome; again and again while Redis is away, the lease lasts and the process may wait.

        Raises:
            OutboxError: It is not known to be written.
        """
        self._written_at = time.monotonic()
        try:
            return write()  # tenacity's loop takes longer than this, and is needed once in a million times
        except OutboxUnreachable:
            if self._stop.overdue:
                raise
        gevent.sleep(FIRST_PAUSE_SECONDS)
        patient = Retrying(
            retry=retry_if_exception_type(OutboxUnreachable),
            wait=wait_exponential(multiplier=2 * FIRST_PAUSE_SECONDS, max=MAX_PAUSE_SECONDS),
            stop=stop_after_delay(max(0.0, self.left_seconds)) | _stop_overdue(self._stop),
            sleep=gevent.sleep,
            reraise=True,
        )
        return patient(write)


class _stop_overdue(stop_base):  # noqa: N801 - named as tenacity names its stops
    """Stop as soon as the process's grace period is over."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop

    def __call__(self, retry_state: RetryCallState) -> bool:  # noqa: ARG002 - tenacity's signature
        return self._stop.overdue
