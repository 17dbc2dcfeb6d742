"""Trackers and proxies that give every request the same answer, by TLS if they are given a certificate."""

from __future__ import annotations

import contextlib
import re
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import trustme

Server = TypeVar("Server", bound=socketserver.TCPServer)


def answer(status: str, body: str = "", *headers: str) -> bytes:
    """A whole answer, such as ``answer("401 Unauthorized", "key revoked")``."""
    data = body.encode()
    head = "\r\n".join([f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(data)}"])
    return head.encode() + b"\r\n\r\n" + data


class Answering(socketserver.ThreadingTCPServer):
    """Answers every request in the same way.

    Args:
        data: The answer.
        context: For a server that speaks TLS.
        inner: For a proxy: it takes the place of every host that CONNECT names.

    Attributes:
        requests: The first line of each request.
    """

    def __init__(self, data: bytes, context: ssl.SSLContext | None, inner: ssl.SSLContext | None) -> None:
        self.requests: list[str] = []
        self._data, self._context, self._inner = data, context, inner
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)

    def finish_request(self, request: Any, _: Any) -> None:
        """Serve one connection, until it ends."""
        with contextlib.suppress(OSError):
            if self._context is not None:
                request = self._context.wrap_socket(request, server_side=True)
            with request:
                self._serve(request)

    def _serve(self, connection: Any) -> None:
        while self._read(connection):
            if self._inner is not None and self.requests[-1].startswith("CONNECT"):
                connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                with self._inner.wrap_socket(connection, server_side=True) as tunnel:
                    self._serve(tunnel)
                return
            connection.sendall(self._data)

    def _read(self, connection: Any) -> bool:
        """Read a request, a byte at a time: after a CONNECT follows TLS. False at the end."""
        came = b""
        while not came.endswith(b"\r\n\r\n"):
            if not (piece := connection.recv(1)):
                return False
            came += piece
        self.requests.append(came.decode().partition("\r\n")[0])
        found = re.search(rb"content-length: *(\d+)", came, re.IGNORECASE)
        rest = int(found[1]) if found else 0
        while rest:
            rest -= len(connection.recv(rest))
        return True


@contextmanager
def answering(
    data: bytes, context: ssl.SSLContext | None = None, inner: ssl.SSLContext | None = None
) -> Iterator[tuple[Answering, int]]:
    """A server, and its port."""
    with running(Answering(data, context, inner)) as (server, port):
        yield server, port


@contextmanager
def running(server: Server) -> Iterator[tuple[Server, int]]:
    """A server that serves in a thread of its own, and its port."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server, server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def certified(authority: trustme.CA, name: str = "127.0.0.1", **validity: Any) -> ssl.SSLContext:
    """What a server of this name needs; ``not_after`` is a moment."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name, **validity).configure_cert(context)
    return context
