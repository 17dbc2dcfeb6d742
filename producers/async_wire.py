"""One connection to Redis for an event loop, shared by any number of calls: answers come in the order of the commands.

``async_link`` decides when there is to be one.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections import deque
from collections.abc import Callable
from contextvars import Context
from types import TracebackType
from typing import Any, Self

from redis.exceptions import AuthenticationError, BusyLoadingError, ResponseError

from insend_relay.outbox.errors import OutboxUnreachable
from insend_relay.outbox.process import abandon
from insend_relay.producers.address import Late
from insend_relay.producers.packing import packed


class Wire:
    """An open connection, shared by any number of calls: answers come in the order of the commands.

    Attributes:
        cancelled: True when it was ended from our side; no other needs to be opened for it.
        used: Whether a command has been run on it.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._reader, self._writer = connection.streams
        self._answers: deque[asyncio.Future[Any]] = deque()  # still to come; those that nobody waits for are done
        self._retired = False
        self.cancelled = False
        self.used = False
        self._descriptor: int = self._writer.get_extra_info("socket").fileno()
        self._is_readable = _looker(self._descriptor)

    def start(self, ended: Callable[[Wire], None]) -> None:
        """Begin to read; ``ended`` is called once, when this is of no use any more."""
        self._ended = ended
        self._task = asyncio.create_task(self._read_answers(), name="insend-answers", context=Context())
        # A loop may be closed without a word to its tasks; asyncio's own helpers ask it so to say nothing.
        self._task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - see above

    async def run(self, command: tuple[Any, ...], deadline: float) -> Any:
        """Run one command, once; errors as ``TimedConnection.run`` has them."""
        data = packed(command)  # first: were it to fail, no answer would come
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        self.used = True
        self._writer.write(data)
        try:
            async with Until(deadline):
                return await answer
        except TimeoutError as error:
            raise Late("Redis did not answer in time", unknown=True) from error
        finally:
            self._end_if_unwanted()

    def is_stale(self) -> bool:
        """Whether Redis has closed it (a restart, an idle time-out) or it holds an answer that nobody waits for."""
        if self._task.done() or self._task.cancelling() or self._writer.transport.is_closing():
            return True
        # The loop may have read that answer already; asyncio has no other way to ask, and redis-py asks so as well.
        unasked = self._reader._buffer  # type: ignore[attr-defined]  # noqa: SLF001 - see above
        return not self._answers and (bool(unasked) or self._is_readable())

    def abandon(self) -> None:
        """In a forked child: close the child's copy of the parent's connection, and say nothing to Redis."""
        if not self._writer.transport.is_closing():  # else its descriptor may be another's by now
            abandon(self._descriptor)

    def retire(self) -> None:
        """End it as soon as nobody waits for an answer."""
        self._retired = True
        self._end_if_unwanted()

    async def ended(self) -> None:
        """Return when it has ended."""
        await asyncio.wait([self._task])

    def _end_if_unwanted(self) -> None:
        if self._retired and all(answer.done() for answer in self._answers):
            # Not by cancelling its task: one that has not begun yet would never come to close the socket.
            self.cancelled = True
            self._writer.transport.abort()

    async def _read_answers(self) -> None:
        try:
            broken = await self._read_while_whole()
        except asyncio.CancelledError:
            self.cancelled = True
            await self._end("the connection to Redis was closed meanwhile")
            raise
        await self._end(broken)

    async def _read_while_whole(self) -> str:
        """Hand the answers out; returns why there are no more."""
        while True:
            try:
                reply = await self._connection.read_response()
            except ResponseError as error:
                reply = error
            except (AuthenticationError, BusyLoadingError) as error:  # an answer too, but redis-py has hung up by now
                self._answer(error)
                return f"Redis broke off: {error}"
            except Exception as error:  # noqa: BLE001 - redis-py takes an answer's form for granted
                return f"Redis broke off before it answered: {error}"
            if not self._answers:
                return "Redis gave an answer that nobody had asked for"
            self._answer(reply)

    def _answer(self, reply: Any) -> None:
        answer = self._answers.popleft() if self._answers else None
        if answer is None or answer.done():
            return
        if isinstance(reply, Exception):
            answer.set_exception(reply)
        else:
            answer.set_result(reply)

    async def _end(self, reason: str) -> None:
        self._writer.transport.abort()
        for answer in self._answers:
            if not answer.done():
                answer.set_exception(OutboxUnreachable(reason, unknown=True))
        self._ended(self)
        await self._connection.disconnect(nowait=True)


def _looker(descriptor: int) -> Callable[[], bool]:
    """Tells whether there is something to read on a socket, or its end, without waiting."""
    if not hasattr(select, "poll"):  # Windows
        return lambda: bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return lambda: bool(poll.poll(0))


class Until:
    """A time-out at a moment of ``time.monotonic()``; as ``asyncio.timeout``, but what came in time counts.

    When something else has kept the loop busy past that moment, the answer lies there unread: it gets its turn first.
    """

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        left = max(0.0, self._deadline - time.monotonic())
        self._timer: asyncio.Handle = asyncio.get_running_loop().call_later(left, self._expire)
        return self

    def _expire(self, rounds: int = 2) -> None:
        if rounds:  # one for the bytes to reach the reader, one for the reader to hand the answer out
            self._timer = asyncio.get_running_loop().call_soon(self._expire, rounds - 1)
        else:
            self._timeout.reschedule(0)  # long ago: in the loop's next round

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        await self._timeout.__aexit__(kind, error, trace)
