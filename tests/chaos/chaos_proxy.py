"""A TCP proxy that breaks what passes through it: delays, cuts, swallows one or both directions, refuses.

It can also let single connections die, as a NAT gateway or a load balancer does: the client is told nothing, and what
it sends on such a connection is swallowed, or answered by a reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Literal

Mode = Literal["pass", "delay", "half", "blackhole", "refuse"]
Death = Literal["forgotten", "reset"]
DELAY_SECONDS = 0.08
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST


@dataclass(eq=False)
class Connection:
    """A client's connection and the proxy's own one to the server.

    Attributes:
        client: The client's.
        used_at: When something passed the last time, monotonic seconds.
        dead: Whether nothing passes any more.
        used_dead: Whether the client has sent something since then.
    """

    client: asyncio.StreamWriter
    used_at: float = field(default_factory=time.monotonic)
    dead: bool = False
    used_dead: bool = False


class Proxy:
    """Between one kind of process and one server; lives in an event loop.

    Attributes:
        port: Where it listens.
        mode: What it does to connections, old and new.
        target: The port to which new connections lead.
        death: What a client meets that uses a dead connection.
        idle_seconds: After how long without traffic a connection is dead; None: never.
        dead_uses: On how many dead connections a client has sent something.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.mode: Mode = "pass"
        self.target = target
        self.death: Death = "forgotten"
        self.idle_seconds: float | None = None
        self.dead_uses = 0
        self._connections: set[Connection] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._pipes: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; on the same port as before, if there was one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def become(self, mode: Mode) -> None:
        """Do something else from now on."""
        if self.mode == "refuse":
            await self.start()
        self.mode = mode
        if mode == "refuse":
            self._server.close()
            self.cut()

    def cut(self) -> None:
        """Break every connection, without a word."""
        for writer in list(self._writers):
            writer.transport.abort()

    def let_die(self) -> None:
        """All connections that are open are dead from now on."""
        for connection in self._connections:
            connection.dead = True

    async def stop(self) -> None:
        """Break everything."""
        self._server.close()
        self.cut()
        for pipe in list(self._pipes):
            pipe.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            there, thither = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            self._writers.discard(writer)
            writer.transport.abort()
            return
        self._writers.add(thither)
        connection = Connection(writer)
        self._connections.add(connection)
        for source, sink, back in ((reader, thither, False), (there, writer, True)):
            pipe = asyncio.create_task(self._pipe(connection, source, sink, back=back))
            self._pipes.add(pipe)
            pipe.add_done_callback(self._pipes.discard)

    async def _pipe(
        self, connection: Connection, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, back: bool
    ) -> None:
        with contextlib.suppress(ConnectionError, OSError):
            while data := await source.read(65_536):
                if self.mode == "delay":
                    await asyncio.sleep(DELAY_SECONDS)
                if self.mode == "blackhole" or (self.mode == "half" and back):
                    continue
                if self._is_dead(connection):
                    if not back and self._reset(connection):
                        break
                    continue
                connection.used_at = time.monotonic()
                sink.write(data)
                await sink.drain()
        self._connections.discard(connection)
        self._writers.discard(sink)
        sink.transport.abort()

    def _is_dead(self, connection: Connection) -> bool:
        if self.idle_seconds is not None and time.monotonic() - connection.used_at > self.idle_seconds:
            connection.dead = True
        return connection.dead

    def _reset(self, connection: Connection) -> bool:
        """Whether a dead connection that its client has used is reset."""
        if not connection.used_dead:
            connection.used_dead = True
            self.dead_uses += 1
        if self.death == "forgotten":
            return False
        client: socket.socket = connection.client.get_extra_info("socket")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.client.transport.abort()
        return True
