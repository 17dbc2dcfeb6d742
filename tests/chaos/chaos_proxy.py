"""A TCP proxy that breaks what passes through it: delays, cuts, swallows one or both directions, refuses."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Literal

Mode = Literal["pass", "delay", "half", "blackhole", "refuse"]
DELAY_SECONDS = 0.08


class Proxy:
    """Between one kind of process and one server; lives in an event loop.

    Attributes:
        port: Where it listens.
        mode: What it does to connections, old and new.
        target: The port to which new connections lead.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.mode: Mode = "pass"
        self.target = target
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
        for source, sink, back in ((reader, thither, False), (there, writer, True)):
            pipe = asyncio.create_task(self._pipe(source, sink, back=back))
            self._pipes.add(pipe)
            pipe.add_done_callback(self._pipes.discard)

    async def _pipe(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, back: bool) -> None:
        with contextlib.suppress(ConnectionError, OSError):
            while data := await source.read(65_536):
                if self.mode == "delay":
                    await asyncio.sleep(DELAY_SECONDS)
                if self.mode == "blackhole" or (self.mode == "half" and back):
                    continue
                sink.write(data)
                await sink.drain()
        self._writers.discard(sink)
        sink.transport.abort()
