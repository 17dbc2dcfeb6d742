"""A Redis behind real TLS: the servers of the wheels speak none, so a thread of ours does it for them."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import trustme
from waiting import PATIENCE_SECONDS

from insend_relay.console.sandbox.embedded import EmbeddedRedis

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextmanager
def behind_tls(server: EmbeddedRedis, folder: Path, name: str = "127.0.0.1") -> Iterator[str]:
    """The address of this Redis by TLS; only the address knows the authority of its certificate, made for the name."""
    with _tls_to(server.port, folder, name) as port:
        yield _address(port, folder)


@contextmanager
def behind_tls_of_a_process(server: EmbeddedRedis, folder: Path) -> Iterator[str]:
    """``behind_tls`` without a thread in this process.

    A fork in C while such a thread waits for the interpreter may take a lock of CPython's with it, which its child then
    never gets.
    """
    command = [sys.executable, __file__, str(server.port), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield _address(int(process.stdout.readline()), folder)
        process.stdin.close()


def _address(port: int, folder: Path) -> str:
    return f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={folder / 'ca.pem'}"


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


def _tls_to(port: int, folder: Path, name: str) -> AbstractContextManager[int]:
    """The port of a TLS server that passes on to a port of this machine."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, thither = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_pass_on(reader, thither), _pass_on(there, writer))

    return _tls_server(folder, serve, name)


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


if __name__ == "__main__":
    with _tls_to(int(sys.argv[1]), Path(sys.argv[2]), "127.0.0.1") as own:
        print(own, flush=True)  # noqa: T201 - for the process that started this one
        sys.stdin.read()
