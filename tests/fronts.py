"""What stands before a tracker: answers 200, and forgets, resets or limits connections when told to."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from typing import Self

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST
PORT_TRIES = 50


class Front:
    """A tracker behind a NAT gateway or a load balancer, at one or more addresses of this machine with one port.

    Args:
        hosts: The addresses.
        headers: More lines of each answer.
        limit: How many connections may be open at a time; a further one is closed as soon as it is accepted.
        context: For TLS.

    Attributes:
        port: Where it listens.
        posts: Which connection each request came on, by its number; a request that was swallowed is among them.
        unanswered: How many of them got no answer.
        peers: The address at which each connection came in, by its number.
        refused: How many connections were over the limit.
    """

    def __init__(
        self, *hosts: str, headers: str = "", limit: int = 1_000_000, context: ssl.SSLContext | None = None
    ) -> None:
        self.posts: list[int] = []
        self.peers: list[str] = []
        self.unanswered = 0
        self.refused = 0
        self._answer = f"HTTP/1.1 200 OK\r\n{headers}Content-Length: 2\r\n\r\nOK".encode()
        self._limit, self._context = limit, context
        self._open: dict[int, socket.socket] = {}
        self._forgotten: set[int] = set()
        self._resets: set[int] = set()
        self._lock = threading.Lock()
        self._may_answer = threading.Event()
        self._may_answer.set()
        self._servers = _listening(hosts or ("127.0.0.1",))
        self.port: int = self._servers[0].getsockname()[1]

    def url(self, host: str = "127.0.0.1") -> str:
        """Where events go."""
        return f"http{'s' if self._context else ''}://{host}:{self.port}/watch/event"

    @property
    def connections(self) -> int:
        """How many were opened so far."""
        return len(self.peers)

    @property
    def open(self) -> int:
        """How many are open now."""
        return len(self._open)

    def __enter__(self) -> Self:
        for server in self._servers:
            threading.Thread(target=self._accept, args=(server,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._may_answer.set()
        for server in self._servers:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()
        for connection in list(self._open.values()):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def hold(self) -> None:
        """Keep the answers back, so that each request needs a connection of its own."""
        self._may_answer.clear()

    def answer(self) -> None:
        """Give them."""
        self._may_answer.set()

    def forget(self) -> None:
        """Take what comes on the connections that are open now, and never answer it."""
        self._forgotten |= set(self._open)

    def reset(self) -> None:
        """Answer what comes on the connections that are open now by a reset."""
        self._resets |= set(self._open)

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with self._lock:
                if len(self._open) >= self._limit:
                    self.refused += 1
                    connection.close()
                    continue
                number = len(self.peers)
                self.peers.append(connection.getsockname()[0])
                self._open[number] = connection
            threading.Thread(target=self._serve, args=(number, connection), daemon=True).start()

    def _serve(self, number: int, connection: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError), connection:
                if self._context is not None:
                    with self._context.wrap_socket(connection, server_side=True) as secret:
                        self._answer_all(number, secret)
                else:
                    self._answer_all(number, connection)
        finally:
            with self._lock:
                del self._open[number]

    def _answer_all(self, number: int, connection: socket.socket) -> None:
        while read_request(connection):
            self.posts.append(number)
            self._may_answer.wait()
            if number not in self._forgotten | self._resets:
                connection.sendall(self._answer)
                continue
            self.unanswered += 1
            if number in self._resets:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                return


def read_request(connection: socket.socket) -> bytes:
    """Head and body of one request; nothing when the client has gone."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (piece := connection.recv(65_536)):
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(body) < length:
        if not (piece := connection.recv(65_536)):
            return b""
        body += piece
    return data


def _listening(hosts: tuple[str, ...]) -> list[socket.socket]:
    """A server at each of these addresses, all at one port that is free at all of them."""
    for _ in range(PORT_TRIES):
        servers = [socket.create_server((hosts[0], 0), backlog=1024)]
        try:
            servers += [socket.create_server((host, servers[0].getsockname()[1]), backlog=1024) for host in hosts[1:]]
        except OSError:
            for server in servers:
                server.close()
        else:
            return servers
    raise AssertionError("no port is free at all of these addresses")
