"""Give up all waiting events of one lane, such as those of a bot: bounded steps, and the books balance after each."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from insend_relay.outbox.keys import Lane
from insend_relay.outbox.lease import shown
from insend_relay.outbox.scripts import Scripts
from insend_relay.outbox.store import Outbox

POLL_SECONDS = 0.05  # between two looks whether the worker has ended with the first event


@dataclass(slots=True)
class LaneDiscard:
    """What was given up so far; valid after an exception too.

    Attributes:
        lane: The lane.
        last_seq: Events that were accepted later stay.
        discarded: How many events were given up.
        possibly_sent: How many of them the tracker may have received: a worker that died had begun to send them.
        sending: The worker that is sending the first event, which therefore stays; "" when there is none.
    """

    lane: Lane
    last_seq: int
    discarded: int = 0
    possibly_sent: int = 0
    sending: str = ""

    def run(self, outbox: Outbox, *, wait_seconds: float, waits: Callable[[], None] = lambda: None) -> None:
        """Give up what waits in the lane.

        Args:
            outbox: The outbox.
            wait_seconds: How long to wait for an event that a worker is sending; ``sending`` names the worker when that
                was too short.
            waits: Called once, when the waiting begins.

        Raises:
            OutboxError: Redis failed; what was counted until then is given up, and another run goes on.
        """
        scripts = Scripts(outbox.redis, outbox.keys)
        deadline = time.monotonic() + wait_seconds
        while (status := self._step(scripts)) != b"DISCARDED":
            if status == b"SENDING":
                if time.monotonic() >= deadline:
                    return
                waits()
                waits = _nothing
                time.sleep(POLL_SECONDS)

    def _step(self, scripts: Scripts) -> bytes:
        status: bytes
        status, claim, discarded, possibly_sent = scripts.run(
            "discard_lane", lane=str(self.lane), last_seq=self.last_seq
        )
        self.discarded += discarded
        self.possibly_sent += possibly_sent
        self.sending = shown(claim)
        return status


def _nothing() -> None:
    """Waiting is announced once."""


def last_accepted(outbox: Outbox) -> int:
    """The seq of the latest accepted event: everything that waits now has this or a smaller one."""
    return int(outbox.read("HGET", outbox.keys.ledger, "accepted") or 0)
