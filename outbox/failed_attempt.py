"""A failed attempt, as a worker reports it to the outbox, and what became of the event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from insend_relay.outbox import record
from insend_relay.outbox.breaker import BreakerLimits
from insend_relay.outbox.claim import Claim
from insend_relay.outbox.fault import Fault
from insend_relay.outbox.letter import group
from insend_relay.outbox.masked import masked
from insend_relay.outbox.scripts import Call, Calls
from insend_relay.outbox.trying import Tried

Failure = Literal["unreachable", "closed", "server", "rejected"]
FailResult = Literal["RETRIED", "BURIED", "NOT_COUNTED", "ELSEWHERE", "ALREADY", "SUPERSEDED"]
_DEFAULT_LIMITS = BreakerLimits()


@masked("type", "reason", "lease_ms")
@dataclass(frozen=True, slots=True)
class Burial:
    """The dead letter that follows if the attempt counts.

    Attributes:
        type: The event type, "?" when it cannot be read.
        reason: Why, in a few words that many letters share.
        meta: From ``letter_meta``.
        lease_ms: For how long the lane's next event is leased; 0: the caller takes none.
    """

    type: str
    reason: str
    meta: bytes
    lease_ms: int


@masked("failure", "delay_ms", "duplicate", "fault", "sent", "retry_after_ms", "unanswered_ms")
@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """One failed attempt, and what follows from it if it counts.

    Attributes:
        failure: Its kind.
        reason: What operators read while the app is paused: the tracker's answer, with nothing personal in it.
        tried: What is known of the head if the attempt counts. The outbox sets the number of attempts to the stored one
            plus 1.
        delay_ms: How long the lane then waits.
        burial: The event becomes a dead letter instead, if the stored number of attempts is the one that ``tried``
            assumes.
        duplicate: Whether the tracker may have taken the event. It is marked, whether the attempt counts or not.
        fault: What is wrong.
        sent: Whether a request was sent. Without one the failure is not the event's fault, so one lane's failures are
            enough to open the breaker.
        retry_after_ms: How long the tracker asked us to wait; 0 when it did not.
        unanswered_ms: When the process got no connection and has none: for how long it has had no answer. A 200 in this
            time is another process's. 0 or less when that is not known.
        jitter: The factor on a pause that this attempt begins.
        limits: The numbers that the circuit breaker judges by.
    """

    failure: Failure
    reason: str
    tried: Tried
    delay_ms: int
    burial: Burial | None = None
    duplicate: bool = False
    fault: Fault = "passing"
    sent: bool = True
    retry_after_ms: int = 0
    unanswered_ms: int = 0
    jitter: float = 1.0
    limits: BreakerLimits = _DEFAULT_LIMITS

    def call(self, scripts: Calls, claim: Claim) -> Call:
        """The script that writes it down."""
        burial = self.burial
        return scripts.call(
            "fail",
            lane=claim.lane,
            token=claim.token,
            id=claim.id,
            assumed=self.tried.attempts - 1,
            delay_ms=max(0, self.delay_ms),
            group=group(burial.type, burial.reason) if burial else b"",
            meta=burial.meta if burial else b"",
            attempt=self.tried.pack(),
            duplicate="1" if self.duplicate else "",
            kind=self.failure,
            sent=int(self.sent),
            reason=self.reason,
            fault=self.fault,
            retry_after_ms=self.retry_after_ms,
            jitter=self.jitter,
            unanswered_ms=self.unanswered_ms,
            limits=self.limits.pack(),
            lease_ms=burial.lease_ms if burial else 0,
            version=record.VERSION,
        )

    def read(self, reply: list[Any], claim: Claim) -> FailReply:
        """The script's answer."""
        result, until_ms, began, following = reply
        return FailReply(result.decode(), until_ms, bool(began), claim.following(following))


class FailReply(NamedTuple):
    """What became of the event.

    Attributes:
        result: RETRIED: the attempt counts, and the lane waits. BURIED: it counts, and the event is a dead letter.
            NOT_COUNTED: the app is paused, and the lane was given back. ELSEWHERE: other processes deliver, so it is no
            outage that this one gets no connection; the lane was given back as it was. ALREADY: the event had gone.
            SUPERSEDED: the lane was no longer the caller's. The last two changed nothing.
        until_ms: Until when the app is paused, on Redis's clock; 0 when it is not.
        began: Whether this attempt began the pause.
        following: The lane's next event after a burial, leased.
    """

    result: FailResult
    until_ms: int = 0
    began: bool = False
    following: Claim | None = None

    @property
    def counts(self) -> bool:
        """Whether the attempt counts against the retry policy."""
        return self.result in {"RETRIED", "BURIED"}
