"""For asyncio: the question whether appends are safe, asked once for all that came meanwhile.

All calls of an event loop share a connection, and while Redis holds such a question it answers nothing else there. So
the appends of one round of the loop go out together with one question behind them; those that come before its answer
wait here for their turn, each with its own deadline.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any

from redis.exceptions import ResponseError

from insend_relay.outbox.durability import Asking
from insend_relay.outbox.errors import OutboxUnreachable
from insend_relay.producers.async_wire import Until

Run = Callable[[tuple[Any, ...], float], Awaitable[Any]]


class Confirming:
    """The questions on one connection.

    Args:
        asking: What is asked.
        run: Runs one command on that connection until a moment of the monotonic clock.
    """

    def __init__(self, asking: Asking, run: Run) -> None:
        self._asking = asking
        self._run = run
        self._gathering: asyncio.Task[bool] | None = None  # will ask for the calls of this round
        self._until = math.inf  # the first of their deadlines
        self._asked: asyncio.Task[bool] | None = None  # waits for Redis's answer

    async def run(self, args: tuple[Any, ...], deadline: float) -> tuple[Any, bool]:
        """Run a command; its reply, and whether what it wrote is confirmed. Raises as ``Wire.run`` does."""
        while self._asked is not None and not self._asked.done():
            if not await _done(self._asked, deadline):
                raise OutboxUnreachable("Redis was busy confirming earlier events")
        self._until = min(self._until, deadline)
        if self._gathering is None:
            self._gathering = asyncio.create_task(self._ask(), name="insend-confirm", context=Context())
        answer = self._gathering
        reply = await self._run(args, deadline)
        return reply, await _done(answer, deadline) and answer.result()

    async def _ask(self) -> bool:
        """Begins in the loop's next round, when the calls of this one have sent their appends."""
        until, self._until = self._until, math.inf
        self._asked, self._gathering = self._gathering, None
        ms = self._asking.patience.ms(until - time.monotonic())
        if not ms:
            return False
        said: Any = None
        try:
            said = await self._run(self._asking.question.command(ms), until)
        except ResponseError as error:
            said = error
        except OutboxUnreachable:  # the calls themselves hear of that
            pass
        return self._asking.heard(said)


async def _done(task: asyncio.Task[bool], deadline: float) -> bool:
    """Wait for a task that others wait for too; whether it has come to its end in time."""
    try:
        async with Until(deadline):
            await asyncio.wait([task])
    except TimeoutError:
        return False
    return True
