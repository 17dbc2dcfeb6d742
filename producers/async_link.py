"""The link to Redis for asyncio; like ``link``, a call takes at most its deadline, whatever is broken.

- An event loop has one connection, which all its calls share: a command leaves the moment it is called, however busy
  the loop is afterwards, and answers come in the order of the commands. So a burst of requests needs no more
  connections, and none of its events waits for another's answer.
- It is opened and proven by one background task, never by a call; a call waits for it only while there is none. While
  Redis is known to be away, calls fail at once; the background task tries until it is back.
- A call that is cancelled or late leaves its answer to whoever comes by. After an answer that is late the connection is
  given up: those who still wait on it have their own deadlines, and new calls take a new one. No command is repeated.
"""

from __future__ import annotations

import asyncio
import logging
import select
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from contextvars import Context, ContextVar
from types import TracebackType
from typing import Any, ClassVar, Self

from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from insend_relay.outbox.connection import mapped
from insend_relay.outbox.errors import OutboxError, OutboxUnreachable
from insend_relay.outbox.scripts import load
from insend_relay.producers.address import CONNECT_SECONDS, Address
from insend_relay.producers.link import FIRST_PAUSE_SECONDS, MOST_PAUSE_SECONDS

_log = logging.getLogger("insend_relay.producers")
_deadline: ContextVar[float] = ContextVar("insend_deadline", default=0.0)  # of the call; monotonic seconds


class AsyncLink:
    """Runs commands for an AsyncOutbox, all of an event loop on one connection.

    Args:
        url: As in the settings.
        timeout_seconds: The longest that a call may take, all its commands together.
        scripts: Those that Redis is told at each connection. A call that has to do it makes two round trips, and in a
            busy loop the second comes too late: after a restart of Redis a whole burst would be refused.
    """

    def __init__(self, url: str, *, timeout_seconds: float, scripts: tuple[str, ...] = ()) -> None:
        self.address = _AsyncAddress(url, scripts)
        self._timeout = timeout_seconds
        self._loops: dict[asyncio.AbstractEventLoop, _LoopLink] = {}

    def start_call(self) -> None:
        """Begin a call: the commands that this task runs from now on share one deadline."""
        _deadline.set(time.monotonic() + self._timeout)

    async def execute_command(self, *args: Any) -> Any:
        """Run one command; raises OutboxUnreachable, or redis-py's exception for an error that Redis answered."""
        here = self._loops.get(asyncio.get_running_loop()) or await self._begin()
        return await here.execute_command(args, _deadline.get())

    async def connect(self) -> None:
        """Have a connection ready for this loop's first call; OutboxUnreachable when there is none in time."""
        self.start_call()
        here = self._loops.get(asyncio.get_running_loop()) or await self._begin()
        await here.connect(_deadline.get())

    async def close(self) -> None:
        """End this loop's background task and connection; later calls connect anew."""
        here = self._loops.get(asyncio.get_running_loop())
        if here is not None:
            await here.life.aclose()

    async def _begin(self) -> _LoopLink:
        for ended in [loop for loop in list(self._loops) if loop.is_closed()]:  # without a word to its generators
            self._loops.pop(ended, None)
        loop = asyncio.get_running_loop()
        here = self._loops[loop] = _LoopLink(self.address, self._timeout)
        here.life = self._live(loop, here)
        await anext(here.life)
        return here

    async def _live(self, loop: asyncio.AbstractEventLoop, here: _LoopLink) -> AsyncGenerator[None]:
        """Closes at the latest when the loop ends: that is when loops close the generators that are left."""
        try:
            yield
        finally:
            self._loops.pop(loop, None)
            await here.close()


class _LoopLink:
    """The connection of one event loop, and only ever touched from it.

    Attributes:
        life: Closing it is how a loop, and ``AsyncLink.close``, end this.
    """

    life: AsyncGenerator[None]

    def __init__(self, address: _AsyncAddress, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._wire: _Wire | None = None
        self._retired: set[_Wire] = set()  # given up, but for the calls that still wait on them
        self._waiters: set[asyncio.Future[None]] = set()  # calls that wait for a connection
        self._away: OutboxError | None = None  # why calls fail at once
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    async def connect(self, deadline: float) -> _Wire:
        """The connection, as soon as there is one."""
        while (wire := self._wire) is None or wire.is_stale():  # again, too: it may be lost the moment it is there
            await self._wait_for_wire(deadline)
        return wire

    async def execute_command(self, args: tuple[Any, ...], deadline: float) -> Any:
        """Run one command, once."""
        wire = await self.connect(deadline)
        if time.monotonic() >= deadline:
            raise OutboxUnreachable(f"Redis took no command within {self._timeout * 1000:.0f} ms")
        try:
            return await wire.run(args, deadline)
        except ResponseError as error:
            if "READONLY" in str(error):  # a failover: the name may by now lead to the new primary
                self._retire(wire)
            raise
        except OutboxUnreachable:
            self._retire(wire)
            raise

    async def close(self) -> None:
        """End the background task and, when those who wait for answers have them, the connection."""
        self._closed = True
        self._fail_waiters(OutboxUnreachable("the connections to Redis were closed meanwhile"))
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._wire is not None:
            self._retire(self._wire)
        while self._retired:
            await self._retired.pop().ended()

    # A call's side

    async def _wait_for_wire(self, deadline: float) -> None:
        if self._wire is not None:
            self._retire(self._wire)
        self._connect()
        if self._away is not None:
            error = type(self._away)(str(self._away))
            await asyncio.sleep(0)  # a caller that tries again at once must let the others run, and the connecting
            raise error
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            async with _Until(deadline):
                await waiter
        except TimeoutError:
            error = OutboxUnreachable(f"no connection to Redis at {self._address} within {self._timeout * 1000:.0f} ms")
            if self._wire is None:
                self._away = error
                self._fail_waiters(error)
            raise error from None
        finally:
            self._waiters.discard(waiter)

    def _retire(self, wire: _Wire) -> None:
        """Give a connection up."""
        if self._wire is wire:
            self._wire = None
            self._retired.add(wire)
            self._connect()
        wire.retire()

    def _fail_waiters(self, reason: OutboxError) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(type(reason)(str(reason)))

    # The background task's side

    def _connect(self) -> None:
        """See to it that there is a connection, soon."""
        if self._wants_connection() and (self._task is None or self._task.done()):
            # In an empty context: a connection must not keep the first request's visitor for ever.
            self._task = asyncio.create_task(self._open_connection(), name="insend-link", context=Context())

    async def _open_connection(self) -> None:
        failures = 0
        while self._wants_connection():
            try:
                wire = await self._address.open()
            except Exception as error:  # noqa: BLE001 - whatever it is, this task must live to try again
                reason = mapped(error) if isinstance(error, RedisError) else OutboxUnreachable(str(error))
                if not failures:
                    _log.warning("no connection to Redis at %s: %s", self._address, reason)
                self._away = reason
                self._fail_waiters(reason)
                await asyncio.sleep(min(FIRST_PAUSE_SECONDS * 2**failures, MOST_PAUSE_SECONDS))
                failures = min(failures + 1, 16)
            else:
                if failures:
                    _log.warning("connected to Redis at %s again", self._address)
                failures = 0
                self._away = None
                self._wire = wire
                wire.start(self._ended)
                for waiter in self._waiters:
                    if not waiter.done():
                        waiter.set_result(None)

    def _wants_connection(self) -> bool:
        return not self._closed and self._wire is None

    def _ended(self, wire: _Wire) -> None:
        """A connection has come to its end."""
        self._retired.discard(wire)
        if self._wire is wire:
            self._wire = None
            if wire.used and not wire.cancelled:  # else at the next call: this one may hang up on us without end
                self._connect()


class _Watched:
    """Mixed into redis-py's connections: they show their two streams."""

    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]

    async def _connect(self) -> None:
        await super()._connect()  # type: ignore[misc]
        self.streams = self._reader, self._writer  # type: ignore[attr-defined]


class _Tcp(_Watched, Connection):
    """redis://"""


class _Tls(_Watched, SSLConnection):
    """rediss://"""


class _Unix(_Watched, UnixDomainSocketConnection):
    """unix://"""


class _AsyncAddress(Address):
    """Where to open connections for asyncio."""

    parse = staticmethod(parse_url)
    retry = Retry
    kinds: ClassVar = {SSLConnection: _Tls, UnixDomainSocketConnection: _Unix}
    plain = _Tcp

    def __init__(self, url: str, scripts: tuple[str, ...]) -> None:
        super().__init__(url)
        self._scripts = scripts

    async def open(self) -> _Wire:
        """Connect, authenticate and see that Redis answers; redis-py's exceptions."""
        connection = self.connection()
        # Not its own time-outs: Python 3.11's wait_for, by which it keeps them, may lose a cancellation.
        connection.socket_timeout = None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await connection.connect()
                await connection.send_command("PING", check_health=False)
                await connection.read_response()
                for script in self._scripts:
                    await connection.send_command("SCRIPT", "LOAD", load(script).source, check_health=False)
                    with suppress(ResponseError):  # forbidden: then the first call sends it whole
                        await connection.read_response()
        except BaseException as error:
            await connection.disconnect(nowait=True)
            if isinstance(error, TimeoutError):
                raise RedisTimeoutError(f"connecting took more than {CONNECT_SECONDS:g} s") from error
            raise
        return _Wire(connection)


class _Wire:
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
        self._poll = select.poll()
        self._poll.register(self._writer.get_extra_info("socket").fileno(), select.POLLIN)

    def start(self, ended: Callable[[_Wire], None]) -> None:
        """Begin to read; ``ended`` is called once, when this is of no use any more."""
        self._ended = ended
        self._task = asyncio.create_task(self._read_answers(), name="insend-answers", context=Context())
        # A loop may be closed without a word to its tasks; asyncio's own helpers ask it so to say nothing.
        self._task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - see above

    async def run(self, command: tuple[Any, ...], deadline: float) -> Any:
        """Run one command, once; errors as ``TimedConnection.run`` has them."""
        packed = self._connection.pack_command(*command)  # first: were it to fail, no answer would come
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        self.used = True
        self._writer.writelines(packed)
        try:
            async with _Until(deadline):
                return await answer
        except TimeoutError as error:
            raise OutboxUnreachable("Redis did not answer in time", unknown=True) from error
        finally:
            self._end_if_unwanted()

    def is_stale(self) -> bool:
        """Whether Redis has closed it (a restart, an idle time-out) or it holds an answer that nobody waits for."""
        if self._task.done() or self._task.cancelling() or self._writer.transport.is_closing():
            return True
        # The loop may have read that answer already; asyncio has no other way to ask, and redis-py asks so as well.
        unasked = self._reader._buffer  # type: ignore[attr-defined]  # noqa: SLF001 - see above
        return not self._answers and (bool(unasked) or bool(self._poll.poll(0)))

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


class _Until:
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
