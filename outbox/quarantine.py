"""Quarantine: events that have crashed two workers are sent one at a time, each with nothing beside it.

A crash ends all POSTs that are in flight in the process, so the event that caused it is one among many, and all of them
come due together. A head that has crashed two workers therefore leaves the ordinary schedule of its app (``due``) for
``quarantine``. One process at a time has the turn there. It begins nothing, lets its POSTs end, and is then leased one
quarantined lane. If the process dies, the lease ends and is counted as any other, and only this event is concerned.
"""

from __future__ import annotations

from insend_relay.outbox import record
from insend_relay.outbox.claim import Claim
from insend_relay.outbox.lease import PROCESS_BYTES, new_token
from insend_relay.outbox.scripts import Scripts
from insend_relay.outbox.store import Outbox

QUARANTINED_FROM = 2  # crashed workers; lua/shared/lane.lua
CRASHED = "crashed worker"  # the reason on the letter of an event that has crashed too many


class QuarantineTurn:
    """This process's turn at the quarantine.

    Args:
        outbox: The outbox.
        worker: Who claims, ``HOST:PID``; shown to operators.

    Attributes:
        held: Whether this process has the turn, as far as it was told. In Redis a turn ends by itself, ``lease_ms``
            after the last claim, so a process that dies does not block the others.
    """

    def __init__(self, outbox: Outbox, worker: str) -> None:
        self._scripts = Scripts(outbox.redis, outbox.keys)
        self._worker = worker
        self._process = b""
        self.held = False

    def claim(self, *, lease_ms: int, idle: bool, token: bytes = b"") -> Claim | None:
        """Take the turn, or keep it, and lease the next quarantined lane; None without a lane.

        Args:
            lease_ms: As in ``Outbox.claim``; the turn lasts as long.
            idle: Whether this process has nothing in flight. If it has, it only gets the turn, when there is a lane to
                send, and asks again.
            token: As in ``Outbox.claim``.

        Raises:
            OutboxError: Redis failed.
        """
        token = token or new_token()
        self._process = token[:PROCESS_BYTES]
        status, *leased = self._scripts.run(
            "claim_quarantined",
            worker=self._worker,
            token=token,
            lease_ms=lease_ms,
            version=record.VERSION,
            idle="1" if idle else "",
        )
        self.held = status in {b"CLAIMED", b"RESERVED"}
        if not leased:
            return None
        now_ms, lane, data, tried, probe = leased
        return Claim(lane.decode(), token, data, tried, now_ms, bool(probe), quarantined=True)

    def leave(self) -> None:
        """Give the turn back; raises OutboxError."""
        if self.held:
            self.held = False
            self._scripts.run("leave_quarantine", process=self._process)
