"""The race of connections in asyncio, apart from Redis: what it leaves when it is cancelled at a bad moment."""

from __future__ import annotations

import asyncio

import pytest

from insend_relay.producers.async_race import race


class Attempt:
    """An attempt that works at once, or that needs until ``let_go`` to end after it was cancelled.

    Attributes:
        is_open: Whether it holds a connection.
        ending: Set when it was cancelled.
    """

    def __init__(self, *, works: bool) -> None:
        self.is_open = False
        self.ending = asyncio.Event()
        self.let_go = asyncio.Event()
        self._works = works

    async def run(self) -> bool:
        """Connect."""
        if self._works:
            self.is_open = True
            return True
        try:
            await self.let_go.wait()
        finally:
            self.ending.set()
            await self.let_go.wait()
        return False

    async def abort(self) -> None:
        """Close it."""
        self.is_open = False


def test_a_race_that_is_cancelled_while_the_losers_end_closes_the_winner() -> None:
    async def main() -> None:
        slow, quick = Attempt(works=False), Attempt(works=True)
        running = asyncio.create_task(race([slow, quick]))
        await slow.ending.wait()
        assert quick.is_open
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not quick.is_open

    asyncio.run(main())
