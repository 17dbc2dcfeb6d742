"""Where Redis is, and how producers in asyncio connect to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, ClassVar

from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.exceptions import ResponseError

from insend_relay.outbox.addresses import SocketAddress
from insend_relay.outbox.durability import Question
from insend_relay.outbox.hello import PROBE, Hello
from insend_relay.outbox.keep_alive import keep_alive
from insend_relay.outbox.race import late
from insend_relay.outbox.scripts import load
from insend_relay.producers.address import CONNECT_SECONDS, Address
from insend_relay.producers.async_race import race
from insend_relay.producers.async_wire import Wire


class _Watched:
    """Mixed into redis-py's connections: they show their two streams, and have TCP keep-alive."""

    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]

    async def _connect(self) -> None:
        await super()._connect()  # type: ignore[misc]
        self.streams = self._reader, self._writer  # type: ignore[attr-defined]
        keep_alive(self.streams[1].get_extra_info("socket"))


class _Tcp(_Watched, Connection):
    """redis://, to one address of its host, whose name stays in messages."""

    def __init__(self, *, address: SocketAddress | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.address = address

    def _connection_arguments(self) -> dict[str, Any]:
        arguments = dict(super()._connection_arguments())
        if self.address is not None:
            arguments["host"], arguments["port"] = self.address.place[:2]
        return arguments


class _Tls(_Tcp, SSLConnection):
    """rediss://, where the host's name is in the verification of the certificate, too."""

    def _connection_arguments(self) -> dict[str, Any]:
        return {**super()._connection_arguments(), "server_hostname": self.host}


class _Unix(_Watched, UnixDomainSocketConnection):
    """unix://"""


class AsyncAddress(Address):
    """Where to open connections for asyncio."""

    retry = Retry
    kinds: ClassVar = {"tcp": _Tcp, "tls": _Tls, "unix": _Unix}

    def __init__(self, url: str, question: Question | None, scripts: tuple[str, ...]) -> None:
        super().__init__(url, question)
        self._scripts = scripts

    async def open(self) -> Wire:
        """Connect, authenticate and see that Redis answers, and the question too; raises as ``TimedAddress.open``."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                found = [None] if self.addresses is None else await self.addresses.resolve_in_loop()
                winner = await race([_Opening(self.connection(address), self._prove) for address in found])
        except TimeoutError as error:
            raise late(CONNECT_SECONDS) from error
        if self.addresses is not None and winner.primary:
            self.addresses.worked(winner.connection.address)
        return Wire(winner.connection)

    async def _prove(self, connection: Any) -> bool:
        """Whether this is a primary; raises when it is of no use to calls."""
        hello = await _probe(connection)
        hello.check()
        if self._question is not None:
            await connection.send_command(*self._question.probe, check_health=False)
            try:
                await connection.read_response()
            except ResponseError as error:
                raise self._question.refusal(error) from error
        for script in self._scripts:
            await connection.send_command("SCRIPT", "LOAD", load(script).source, check_health=False)
            with suppress(ResponseError):  # forbidden: then the first call sends it whole
                await connection.read_response()
        return hello.is_primary


async def _probe(connection: Any) -> Hello:
    """See that an open connection answers, and who does; as ``hello.probe``."""
    await connection.send_packed_command(connection.pack_commands(PROBE), check_health=False)
    await connection.read_response()
    try:
        return Hello.read(await connection.read_response())
    except ResponseError:  # a proxy that does not know HELLO
        return Hello()


class _Opening:
    """An attempt: one connection.

    Args:
        connection: Still closed.
        prove: Asks the server what it must know; returns whether it is a primary.

    Attributes:
        primary: Whether a primary has answered.
    """

    def __init__(self, connection: Any, prove: Callable[[Any], Awaitable[bool]]) -> None:
        self.connection = connection
        self.primary = False
        self._prove = prove
        # Not its own time-outs: Python 3.11's wait_for, by which it keeps them, may lose a cancellation.
        connection.socket_timeout = None

    async def run(self) -> bool:
        """Connect, authenticate and prove it; see ``AsyncAttempt``."""
        try:
            await self.connection.connect()
            self.primary = await self._prove(self.connection)
        except BaseException:
            await self.connection.disconnect(nowait=True)
            raise
        return self.primary

    async def abort(self) -> None:
        """Close it."""
        await self.connection.disconnect(nowait=True)
