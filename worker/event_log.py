"""What the log says of one event; nothing of its data."""

from __future__ import annotations

import logging
import uuid

from insend_relay.outbox.claim import Claim
from insend_relay.outbox.failed_attempt import Burial, FailedAttempt
from insend_relay.outbox.letter import type_of

logger = logging.getLogger(__name__)

FAILING_SECONDS = 60.0  # an event that fails for so long is logged


def name_of(claim: Claim) -> str:
    """The id of the head."""
    return str(uuid.UUID(bytes=claim.id.ljust(16, b"\0")))


def log_burial(claim: Claim, burial: Burial) -> None:
    """The head has become a dead letter."""
    logger.warning("event %s (%s) is a dead letter: %s", name_of(claim), burial.type, burial.reason)


def log_if_failing(claim: Claim, attempt: FailedAttempt, *, counts: bool) -> None:
    """Log an event that has failed for a minute, once: when the attempt is the first one after that minute."""
    before, tried = claim.attempts(), attempt.tried
    failing_ms = FAILING_SECONDS * 1000
    if before.last_at_ms - before.first_at_ms < failing_ms <= tried.last_at_ms - tried.first_at_ms:
        logger.warning(
            "event %s (%s) has failed for %.0f s, attempts that count: %d, the last: %s; it is tried again, and its "
            "visitor's other events wait for it",
            name_of(claim),
            type_of(claim.data),
            (tried.last_at_ms - tried.first_at_ms) / 1000,
            before.attempts + counts,
            attempt.reason,
        )
