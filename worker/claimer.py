"""The claims of one process, each under a fencing token of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from insend_relay.outbox.claim import Claims
from insend_relay.outbox.errors import OutboxUnreachable
from insend_relay.outbox.lease import new_token
from insend_relay.outbox.store import Outbox


class Claimer:
    """Leases lanes, and gives back what was leased by a claim whose answer did not come.

    Args:
        outbox: Where.
        worker: The process's name, ``HOST:PID``.
        lease_seconds: How long a lease lasts.

    Attributes:
        lease_ms: The same, as the outbox wants it.
    """

    def __init__(self, outbox: Outbox, worker: str, lease_seconds: float) -> None:
        self._outbox = outbox
        self._worker = worker
        self.lease_ms = round(lease_seconds * 1000)
        self._unanswered: list[bytes] = []  # tokens

    def claim(self, room: int, *, linger_seconds: float) -> Claims:
        """Lease due lanes; raises OutboxError.

        Args:
            room: How many at most.
            linger_seconds: For how long the caller waits to be called when there are fewer than that; 0: not at all.
        """
        with self.token() as token:
            return self._outbox.claim(
                self._worker,
                room,
                token=token,
                lease_ms=self.lease_ms,
                linger_ms=round(linger_seconds * 1000),
            )

    @contextlib.contextmanager
    def token(self) -> Iterator[bytes]:
        """The token for one claim. If its answer does not come, the next claim first gives back what it has leased."""
        while self._unanswered:
            self._outbox.unclaim(self._unanswered[-1])
            self._unanswered.pop()
        token = new_token()
        try:
            yield token
        except OutboxUnreachable as error:
            if error.unknown:
                self._unanswered.append(token)
            raise
