"""A Redis behind real TLS: the servers of the wheels speak none, so a thread of ours does it for them."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import trustme
from waiting import PATIENCE_SECONDS

from insend_relay.console.sandbox.embedded import EmbeddedRedis

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextmanager
def behind_tls(server: EmbeddedRedis, folder: Path, name: str = "127.0.0.1") -> Iterator[str]:
    """The address of this Redis by TLS; only the address knows the authority of its certificate, made for the name."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, thither = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(_pass_on(reader, thither), _pass_on(there, writer))

    with _tls_server(folder, serve, name) as port:
        yield f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={folder / 'ca.pem'}"


class Impostor:
    """A server that pretends to be our Redis, with a certificate of an authority that this machine does not know.

    Attributes:
        port: Where it listens.
        received: All that clients have sent to it by TLS.
    """

    def __init__(self) -> None:
        self.port = 0
        self.received = bytearray()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer whatever comes with OK."""
        while data := await reader.read(65_536):
            self.received += data
            writer.write(b"+OK\r\n" * data.count(b"*"))


@contextmanager
def impostor(folder: Path) -> Iterator[Impostor]:
    """An impostor that listens on 127.0.0.1."""
    server = Impostor()
    with _tls_server(folder, server.serve, "127.0.0.1") as server.port:
        yield server


@contextmanager
def _tls_server(folder: Path, serve: Serve, name: str) -> Iterator[int]:
    """The port of a TLS server; the authority of its certificate is in ca.pem."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def listen() -> asyncio.Server:
        return await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)

    async def end() -> None:
        listening.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    listening = asyncio.run_coroutine_threadsafe(listen(), loop).result(PATIENCE_SECONDS)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(PATIENCE_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncio.CancelledError):
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
    sink.transport.abort()
