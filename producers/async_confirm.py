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

from insend_relay.outbox.durability import Asking, patience_ms
from insend_relay.outbox.errors import OutboxUnreachable
from insend_relay.producers.async_wire import Until

BUSY_SECONDS = 0.1  # a server that is asked later behind its append may have lost it, and be asked about nothing
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
        self._since = 0.0  # when the first of them came
        self._until = math.inf  # the first of their deadlines
        self._asked: asyncio.Task[bool] | None = None  # waits for Redis's answer

    async def turn(self, deadline: float) -> bool:
        """Wait while a question is open; whether there was one, so that the caller has to look where it is."""
        if self._asked is None or self._asked.done():
            return False
        if not await _done(self._asked, deadline):
            raise OutboxUnreachable("Redis was busy confirming earlier events")
        return True

    async def run(self, args: tuple[Any, ...], deadline: float) -> tuple[Any, bool]:
        """Run a command; its reply, and whether what it wrote is confirmed. Raises as ``Wire.run`` does."""
        if self._gathering is None or self._gathering.done():  # done: somebody has cancelled it
            self._gathering = asyncio.create_task(self._ask(), name="insend-confirm", context=Context())
            # A loop may be closed without a word to its tasks; asyncio's own helpers ask it so to say nothing.
            self._gathering._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - see above
            self._since, self._until = time.monotonic(), math.inf
        self._until = min(self._until, deadline)
        answer = self._gathering
        reply = await self._run(args, deadline)
        return reply, await _done(answer, deadline) and not answer.cancelled() and answer.result()

    async def _ask(self) -> bool:
        """Begins in the loop's next round, when the calls of this one have sent their appends."""
        now, until = time.monotonic(), self._until
        self._asked, self._gathering = self._gathering, None
        if now > min(until, self._since + BUSY_SECONDS) or not self._asking.may_ask():
            return False
        said: Any = None
        try:
            said = await self._run(self._asking.question.command(patience_ms(until - now)), until)
        except ResponseError as error:
            said = error
        except Exception:  # noqa: BLE001, S110 - the appends are in: why there is no answer is the next call's to hear
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
