"""The outbox for a producer in asyncio: what ``Outbox`` has for producers, awaited."""

from __future__ import annotations

from typing import Literal

from insend_relay.outbox.connection import AsyncExecutor, errors_mapped
from insend_relay.outbox.entry import DIRECT, Appended, Entry, InvalidEntry, Way
from insend_relay.outbox.keys import Keys
from insend_relay.outbox.scripts import AsyncScripts


class AsyncOutbox:
    """The way into the outbox.

    Args:
        redis: Whatever runs a command.
        namespace: As in the settings.

    Every method is one round trip and raises OutboxError (unreachable, full, refused).
    """

    def __init__(self, redis: AsyncExecutor, *, namespace: str = "insend") -> None:
        self.keys = Keys(namespace)
        self._redis = redis
        self._scripts = AsyncScripts(redis, self.keys)

    async def enter(
        self, entry: Entry | InvalidEntry, way: Way = DIRECT, *, redis: AsyncExecutor | None = None
    ) -> Appended:
        """Take in what a producer made; see ``Outbox.enter``."""
        return entry.read(await self._scripts.send(entry.call(self._scripts, way), redis))

    async def count(self, what: Literal["no_visitor", "opted_out"]) -> None:
        """Count a call that left no event behind."""
        with errors_mapped():
            await self._redis.execute_command("HINCRBY", self.keys.ledger, what, 1)
