"""Whether a lane's head can be sent, before anything is."""

from __future__ import annotations

from typing import NamedTuple

from insend_relay.outbox import record
from insend_relay.outbox.claim import Claim
from insend_relay.outbox.quarantine import CRASHED
from insend_relay.outbox.record import NotARecord, Record
from insend_relay.worker.form import form
from insend_relay.worker.outcome import Outcome

UNDECODABLE = "undecodable"


class Unsendable(NamedTuple):
    """A head that becomes a dead letter without a POST.

    Attributes:
        reason: Why, in a few words that many letters share.
        outcome: How its last send ended. There is no answer to one that crashed its worker.
    """

    reason: str
    outcome: Outcome


def check(claim: Claim, max_crashes: int) -> tuple[Record, bytes] | Unsendable:
    """Read a head: the event and the form that is posted, or why it cannot be sent.

    Args:
        claim: Its lease.
        max_crashes: With so many crashed workers it is not sent again.
    """
    try:
        event = record.decode(claim.data)
        body = form(claim.lane, event)
    except NotARecord as error:
        return Unsendable(UNDECODABLE, Outcome("refused", answer=str(error)))
    if claim.tried and claim.attempts().abandoned >= max_crashes:
        return Unsendable(CRASHED, Outcome("unknown"))
    return event, body
