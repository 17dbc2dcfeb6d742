"""When a process sends from quarantine: its turns, and the ordinary work between them.

In a turn the process begins nothing else. It lets the POSTs that are in flight end, then sends one quarantined event
after another, each with nothing beside it, for ``TURN_SECONDS`` and at least one. Then it does ordinary work for at
least as long as the turn took. So quarantine takes at most half the time of one process at a time, and ordinary
traffic, however much there is, does not keep it from its turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from insend_relay.outbox.claim import Claim
from insend_relay.outbox.quarantine import QuarantineTurn

TURN_SECONDS = 1.0  # after this no further event is begun in a turn
WORK_SECONDS = 1.0  # of ordinary work at least between two turns, and between two looks whether there is a lane


class Quarantine:
    """A process's share of what is in quarantine; used in one thread.

    Args:
        turn: Of this process.
        clock: Seconds, to measure with.

    Attributes:
        present: Whether lanes are in quarantine, as the last claim said.
    """

    def __init__(self, turn: QuarantineTurn, clock: Callable[[], float] = time.monotonic) -> None:
        self._turn = turn
        self._clock = clock
        self._began = 0.0
        self._sent = False  # in this turn
        self._next_at = clock()
        self.present = False

    @property
    def in_turn(self) -> bool:
        """Whether nothing else may begin in this process, neither a further lane nor a further event of a lane."""
        return self._turn.held

    def may_claim(self, *, in_flight: int) -> bool:
        """Whether to call ``claim`` now. A turn that is over ends here.

        Args:
            in_flight: How many lanes the process works on.

        Raises:
            OutboxError: Redis failed.
        """
        now = self._clock()
        if not self._turn.held:
            return self.present and now >= self._next_at
        if in_flight:
            return False
        if self._sent and now - self._began >= TURN_SECONDS:
            self._rest()
            self._turn.leave()
            return False
        return True

    def claim(self, *, in_flight: int, lease_ms: int, token: bytes) -> Claim | None:
        """The next event to be sent with nothing beside it. None: there is none, or the POSTs in flight must end first.

        Args:
            in_flight: As in ``may_claim``.
            lease_ms: As in ``Outbox.claim``.
            token: As in ``Outbox.claim``.

        Raises:
            OutboxError: Redis failed.
        """
        if not self._turn.held:
            self._began, self._sent = self._clock(), False
        claimed = self._turn.claim(lease_ms=lease_ms, idle=not in_flight, token=token)
        self._sent = self._sent or claimed is not None
        if not self._turn.held:
            self._rest()
        return claimed

    def leave(self) -> None:
        """The process stops: another may take the turn at once. Raises OutboxError."""
        self._turn.leave()

    def _rest(self) -> None:
        now = self._clock()
        self._next_at = now + max(WORK_SECONDS, now - self._began)
