"""What a worker gets from a claim: leased lanes, each with its head."""

from __future__ import annotations

from typing import NamedTuple

from insend_relay.outbox.masked import masked
from insend_relay.outbox.record import id_of
from insend_relay.outbox.trying import Tried


@masked("token", "now_ms")
class Claim(NamedTuple):
    """A leased lane and its head.

    Attributes:
        lane: The lane's name, ``APP/v/UID`` or ``APP/g/UID``.
        token: The fencing token of this lease; no other claim has the same (``lease.new_token``).
        data: The head's bytes as stored; ``record.decode`` reads them.
        tried: What is known of the head's earlier attempts, as stored; empty when there were none.
        now_ms: Redis's clock at the claim.
        probe: Whether the app is paused, and this head shows whether the tracker takes events again.
        quarantined: Whether it comes from quarantine: this process may send nothing beside it.
    """

    lane: str
    token: bytes
    data: bytes
    tried: bytes
    now_ms: int
    probe: bool = False
    quarantined: bool = False

    @property
    def id(self) -> bytes:
        """The head's id, readable in every version of the record."""
        return id_of(self.data)

    @property
    def app(self) -> str:
        """The lane's application."""
        return self.lane.partition("/")[0]

    def attempts(self) -> Tried:
        """What is known of the head's earlier attempts."""
        return Tried.unpack(self.tried, self.id)

    def following(self, data: bytes) -> Claim | None:
        """The same lease with the next head, as settle and bury return it; None when there is none."""
        return Claim(self.lane, self.token, data, b"", self.now_ms) if data else None


class Delivered(NamedTuple):
    """A head that the tracker answered 200.

    Attributes:
        claim: The lease.
        lease_ms: For how long its lane is leased on, with the next event; 0: the caller takes none.
        post_ms: How long the POST took; None when that is not known.
    """

    claim: Claim
    lease_ms: int
    post_ms: int | None = None


class Buried(NamedTuple):
    """What became of a head that was to be a dead letter.

    Attributes:
        held: Whether the caller held the lane, so that it is one now; it may have been one before (a repeated call).
        following: The lane's next head, leased; None as for ``settle``.
        letter_id: The letter's id, 16 bytes, when it is one now; else b"". It is the event's, or one of the letter's
            own: when another letter has the event's, and for bytes that are too short for a record.
    """

    held: bool
    following: Claim | None
    letter_id: bytes


class Claims(list[Claim]):
    """The lanes that one claim has leased.

    Attributes:
        quarantine: Whether lanes are in quarantine, of whichever app (``outbox/quarantine.py``).
        newer: How many lanes it has met whose head a newer release wrote: a worker of that release has to send it.
        lingers: The caller is called by the wake-up list from now on, for the time that it asked for at most.
        quiet_ms: If it lingers, for how long nothing comes due by itself.
    """

    quarantine = False
    newer = 0
    lingers = False
    quiet_ms = 0
