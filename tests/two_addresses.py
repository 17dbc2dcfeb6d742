"""Host names with several addresses, and servers that are no use at an address."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

HOST = "redis.test"


def resolve_to(monkeypatch: pytest.MonkeyPatch, *ports: int) -> str:
    """Let ``HOST`` have an address for each of these ports of 127.0.0.1, in this order; returns its URL."""
    really = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **more: Any) -> list[Any]:
        if host != HOST:
            return really(host, port, *args, **more)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", each)) for each in ports]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return f"redis://{HOST}:6379/0"


@contextmanager
def swallowing() -> Iterator[int]:
    """The port of an address that takes no connection and refuses none: its queue is full, so SYNs are dropped."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for each in (first, second):
            each.setblocking(False)
            with suppress(BlockingIOError):
                each.connect(listener.getsockname())
        yield listener.getsockname()[1]


class Frozen:
    """A node that takes connections and answers nothing.

    Attributes:
        port: Where it listens.
        taken: How many connections it has taken.
        closed: How many of them the other side has closed.
    """

    def __init__(self, listener: socket.socket) -> None:
        self.port: int = listener.getsockname()[1]
        self.taken = 0
        self.closed = 0
        self._listener = listener

    def serve(self) -> None:
        """Take connections until the listener is closed."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.taken += 1
            threading.Thread(target=self._read, args=(connection,)).start()

    def _read(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while connection.recv(65_536):
                pass
        self.closed += 1


@contextmanager
def frozen() -> Iterator[Frozen]:
    """A frozen node."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        node = Frozen(listener)
        thread = threading.Thread(target=node.serve)
        thread.start()
        try:
            yield node
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
