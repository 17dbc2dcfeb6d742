"""Happy eyeballs for Redis in asyncio: as ``outbox.race``, with a task for each attempt."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Protocol, TypeVar

from insend_relay.outbox.addresses import NEXT_ADDRESS_SECONDS
from insend_relay.outbox.race import most_telling


class AsyncAttempt(Protocol):
    """One connection to one address, still to be opened."""

    async def run(self) -> bool:
        """Connect; whether the server is a primary. Cleans up when it raises, also when it is cancelled."""

    async def abort(self) -> None:
        """Close the connection, which is open."""


A = TypeVar("A", bound=AsyncAttempt)


async def race(attempts: Sequence[A]) -> A:
    """Run the attempts and return the one that won, open; the others are closed.

    Raises what the attempts raised when all failed; see ``outbox.race.race``. The caller sets the deadline.
    """
    if len(attempts) == 1:
        await attempts[0].run()
        return attempts[0]
    waiting = deque(attempts)
    running: dict[asyncio.Task[bool], A] = {}
    ended: dict[asyncio.Task[bool], A] = {}
    winner: A | None = None
    try:
        while winner is None and (waiting or running):
            if waiting:
                attempt = waiting.popleft()
                running[asyncio.create_task(attempt.run(), name="insend-connect")] = attempt
            delay = NEXT_ADDRESS_SECONDS if waiting else None
            done, _ = await asyncio.wait(running, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
            ended |= {task: running.pop(task) for task in done}
            winner = _first(ended, primary=True)
        winner = winner or _first(ended, primary=False)
        if winner is None:
            raise most_telling([error for task in ended if (error := task.exception()) is not None])
        return winner
    finally:
        for task in running:
            task.cancel()
        kept = winner
        try:
            await asyncio.gather(*running, return_exceptions=True)
        except BaseException:  # cancelled meanwhile: the caller gets no winner
            kept = None
            raise
        finally:
            for task, attempt in (ended | running).items():
                if attempt is not kept and _has_worked(task):
                    await attempt.abort()


def _first(ended: dict[asyncio.Task[bool], A], *, primary: bool) -> A | None:
    """The first that has worked."""
    worked = (task for task in ended if _has_worked(task))
    return next((ended[task] for task in worked if task.result() is primary), None)


def _has_worked(task: asyncio.Task[bool]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None
