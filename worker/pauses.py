"""Which apps the circuit breaker has paused, as far as this process was told; and the log of it."""

from __future__ import annotations

import logging
import time

from insend_relay.outbox.claim import Claim
from insend_relay.outbox.fault import Fault

logger = logging.getLogger(__name__)


class Pauses:
    """What one process knows. A claim gives out no lane of a paused app; this is for lanes that were claimed before."""

    def __init__(self) -> None:
        self._paused: dict[str, tuple[float, float]] = {}  # app -> when it was told, until when; monotonic seconds
        self._faults: dict[str, Fault] = {}  # app -> what was wrong when its pause began, or at its last probe

    def hold(self, claim: Claim, leased_at: float) -> bool:
        """Whether an event must not be sent now, because its app was paused after its lane was leased.

        Args:
            claim: The event's.
            leased_at: When the lane was leased, monotonic seconds.
        """
        if not self._paused:
            return False
        told_at, until = self._paused.get(claim.app, (0.0, 0.0))
        return leased_at < told_at and time.monotonic() < until

    def pause(self, app: str, seconds: float) -> None:
        """An app is paused for so long from now."""
        now = time.monotonic()
        self._paused[app] = now, now + seconds

    def end(self, claim: Claim) -> None:
        """A 200 has ended the pause of its app, if there was one."""
        if self._paused:
            self._paused.pop(claim.app, None)

    def log(self, app: str, fault: Fault, reason: str, *, began: bool) -> None:
        """Log that a pause began, or that a probe has found another fault, which may need a person.

        Args:
            app: Which.
            fault: What is wrong.
            reason: The tracker's answer, with nothing personal in it.
            began: Whether the pause has just begun; else a probe has failed.
        """
        known, self._faults[app] = self._faults.get(app, "passing"), fault
        if began:
            text = "app %s: the tracker takes nothing (%s); paused, nothing is lost"
        elif fault != known:
            text = "app %s: still paused, and now the tracker answers: %s"
        else:
            return
        logger.warning(text, app, reason, extra={"subject": app})
