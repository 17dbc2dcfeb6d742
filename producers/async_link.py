"""The link to Redis for asyncio; like ``link``, a call takes at most its deadline, whatever is broken.

- An event loop has one connection, which all its calls share: a command leaves the moment it is called, however busy
  the loop is afterwards, and answers come in the order of the commands. So a burst of requests needs no more
  connections, and none of its events waits for another's answer.
- It is opened and proven by one background task, never by a call; a call waits for it only while there is none. While
  Redis is known to be away, calls fail at once; the background task tries until it is back. After a late answer a
  call waits 5 ms at most, until a connection has been proven again; see ``link``.
- A call that is cancelled or late leaves its answer to whoever comes by. After an answer that is late the connection is
  given up: those who still wait on it have their own deadlines, and new calls take a new one. No command is repeated.
- A forked child has connections of its own, however it was forked.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator
from contextvars import Context
from functools import partial
from typing import Any

from redis.exceptions import ResponseError

from insend_relay.outbox.durability import Asking, Durability
from insend_relay.outbox.errors import OutboxError, OutboxUnreachable
from insend_relay.outbox.process import PerProcess
from insend_relay.outbox.scripts import COMMANDS as SCRIPTS
from insend_relay.producers.address import DOUBT_SECONDS, Late, why_away
from insend_relay.producers.async_address import AsyncAddress
from insend_relay.producers.async_confirm import Confirming
from insend_relay.producers.async_wire import Until, Wire
from insend_relay.producers.pool import FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS

_log = logging.getLogger("insend_relay.producers")


class AsyncCall:
    """One call of the application, which runs its commands for an AsyncOutbox.

    Not a ContextVar: to set one allocates, in Python 3.11 an allocation may run ``__del__``, and one that sets another
    frees what the first is still reading. Then the process crashes.

    Args:
        link: Has the connections.
        deadline: When it must end; monotonic seconds.

    Attributes:
        confirmed: Whether what it wrote is as safe as the settings want it.
    """

    __slots__ = ("_link", "confirmed", "deadline")

    def __init__(self, link: AsyncLink, deadline: float) -> None:
        self._link = link
        self.deadline = deadline
        self.confirmed = True

    async def execute_command(self, *args: Any) -> Any:
        """Run one command; raises OutboxUnreachable, or redis-py's exception for an error that Redis answered."""
        return await self._link.run(args, self)


class AsyncLink:
    """Runs commands for an AsyncOutbox, all of an event loop on one connection.

    Args:
        url: As in the settings.
        timeout_seconds: The longest that a call may take, all its commands together.
        durability: What Redis is asked behind each script; see ``async_confirm``.
        scripts: Those that Redis is told at each connection. A call that has to do it makes two round trips, and in a
            busy loop the second comes too late: after a restart of Redis a whole burst would be refused.
    """

    def __init__(
        self, url: str, *, timeout_seconds: float, durability: Durability = "memory", scripts: tuple[str, ...] = ()
    ) -> None:
        self._asking = Asking.about(durability)
        self.address = AsyncAddress(url, None if self._asking is None else self._asking.question, scripts)
        self._timeout = timeout_seconds
        self._processes: PerProcess[_Loops] = PerProcess(lambda _: _Loops(), leave=_Loops.leave, scope=os.getpid)

    def call(self) -> AsyncCall:
        """Begin a call: its commands share one deadline."""
        return AsyncCall(self, time.monotonic() + self._timeout)

    async def execute_command(self, *args: Any) -> Any:
        """Run one command, in a call of its own; see ``AsyncCall.execute_command``."""
        return await self.call().execute_command(*args)

    async def run(self, args: tuple[Any, ...], call: AsyncCall) -> Any:
        """Run one command of a call; see ``AsyncCall.execute_command``."""
        here = self._loops.get(asyncio.get_running_loop()) or await self._begin()
        reply, call.confirmed = await here.execute_command(args, call.deadline)
        return reply

    async def connect(self) -> None:
        """Have a connection ready for this loop's first call; OutboxUnreachable when there is none in time."""
        deadline = time.monotonic() + self._timeout
        here = self._loops.get(asyncio.get_running_loop()) or await self._begin()
        await here.connect(deadline)

    async def close(self) -> None:
        """End this loop's background task and connection; later calls connect anew."""
        here = self._loops.get(asyncio.get_running_loop())
        if here is not None:
            await here.life.aclose()

    @property
    def _loops(self) -> _Loops:
        return self._processes.get()

    async def _begin(self) -> _LoopLink:
        loops = self._loops
        for ended in [loop for loop in list(loops) if loop.is_closed()]:  # without a word to its generators
            loops.pop(ended, None)
        loop = asyncio.get_running_loop()
        here = loops[loop] = _LoopLink(self.address, self._timeout, self._asking)
        here.life = self._live(loops, loop, here)
        await anext(here.life)
        return here

    async def _live(self, loops: _Loops, loop: asyncio.AbstractEventLoop, here: _LoopLink) -> AsyncGenerator[None]:
        """Closes at the latest when the loop ends: that is when loops close the generators that are left."""
        try:
            yield
        finally:
            loops.pop(loop, None)
            await here.close()


class _Loops(dict[asyncio.AbstractEventLoop, "_LoopLink"]):
    """The event loops of one process."""

    def leave(self) -> None:
        """In a forked child: end its copies of the parent's connections, and touch nothing that the parent uses.

        A loop that is left has an epoll object and a wake-up socket in common with the parent's. So its generators must
        not be closed either, as the garbage collector would do.
        """
        _parents.append(self)
        for link in self.values():
            link.abandon()


_parents: list[_Loops] = []


class _LoopLink:
    """The connection of one event loop, and only ever touched from it.

    Attributes:
        life: Closing it is how a loop, and ``AsyncLink.close``, end this.
    """

    life: AsyncGenerator[None]

    def __init__(self, address: AsyncAddress, timeout: float, asking: Asking | None) -> None:
        self._address = address
        self._asking = asking
        self._timeout = timeout
        self._wire: Wire | None = None
        self._confirming: Confirming | None = None  # on that connection; None when nothing is asked
        self._retired: set[Wire] = set()  # given up, but for the calls that still wait on them
        self._waiters: set[asyncio.Future[None]] = set()  # calls that wait for a connection
        self._away: OutboxError | None = None  # why calls fail at once
        self._doubted = False  # whether the last answer was late, and Redis has not answered since
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    async def connect(self, deadline: float) -> Wire:
        """The connection, as soon as there is one."""
        while (wire := self._wire) is None or wire.is_stale():  # again, too: it may be lost the moment it is there
            await self._wait_for_wire(deadline)
        return wire

    async def execute_command(self, args: tuple[Any, ...], deadline: float) -> tuple[Any, bool]:
        """Run one command, once; its reply, and whether what it wrote is confirmed."""
        wire = await self.connect(deadline)
        while self._confirming is not None and args[0] in SCRIPTS:
            if not await self._confirming.turn(deadline):
                return await self._confirming.run(args, deadline)
            wire = await self.connect(deadline)  # by now it may be another
        return await self._run(wire, args, deadline), True

    async def _run(self, wire: Wire, args: tuple[Any, ...], deadline: float) -> Any:
        if time.monotonic() >= deadline:
            raise OutboxUnreachable(f"Redis took no command within {self._timeout * 1000:.0f} ms")
        try:
            return await wire.run(args, deadline)
        except ResponseError as error:
            if "READONLY" in str(error):  # a failover: the name may by now lead to the new primary
                self._retire(wire)
            raise
        except OutboxUnreachable as error:
            # A question is late when a replica is; Redis itself has answered the append before it.
            self._doubted = self._doubted or (isinstance(error, Late) and args[0] in SCRIPTS)
            self._retire(wire)
            raise

    def abandon(self) -> None:
        """In a forked child: close its copies of the parent's connections, and say nothing to Redis."""
        for wire in [self._wire, *self._retired]:
            if wire is not None:
                wire.abandon()

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
        began = time.monotonic()
        timeout = DOUBT_SECONDS if self._doubted else self._timeout
        if self._doubted:
            deadline = min(deadline, began + DOUBT_SECONDS)
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            async with Until(deadline):
                await waiter
        except TimeoutError:
            error = OutboxUnreachable(f"no connection to Redis at {self._address} within {timeout * 1000:.0f} ms")
            if self._wire is None and deadline - began > timeout / 2:  # not for one who came late to its own call
                self._away = error
                self._fail_waiters(error)
            raise error from None
        finally:
            self._waiters.discard(waiter)

    def _retire(self, wire: Wire) -> None:
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
                reason = why_away(error)
                if not failures:
                    _log.warning("no connection to Redis at %s: %s", self._address, reason)
                self._away = reason
                self._fail_waiters(reason)
                await asyncio.sleep(min(FIRST_PAUSE_SECONDS * 2**failures, MAX_PAUSE_SECONDS))
                failures = min(failures + 1, 16)
            else:
                if failures:
                    _log.warning("connected to Redis at %s again", self._address)
                failures = 0
                self._away = None
                self._doubted = False
                self._wire = wire
                if self._asking is not None:
                    self._confirming = Confirming(self._asking, partial(self._run, wire))
                wire.start(self._ended)
                for waiter in self._waiters:
                    if not waiter.done():
                        waiter.set_result(None)

    def _wants_connection(self) -> bool:
        return not self._closed and self._wire is None

    def _ended(self, wire: Wire) -> None:
        """A connection has come to its end."""
        self._retired.discard(wire)
        if self._wire is wire:
            self._wire = None
            if wire.used and not wire.cancelled:  # else at the next call: this one may hang up on us without end
                self._connect()
