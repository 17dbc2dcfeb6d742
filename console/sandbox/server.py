"""The sandbox's HTTP/1.1: a thread for each connection, and answers that may come late, in drips or not at all.

Python's own ``http.server`` reads the requests. Flask's servers would not do: below them an application cannot drip
the status line, hang up instead of answering, or stop listening. Connections are kept alive, and each answer leaves at
once and in one piece (TCP_NODELAY). Nothing is looked up in the DNS and nothing is printed.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import socket
import socketserver
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler

_MOST_BYTES = 1_000_000  # of a body; our events have 64 KB at most


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request; ``connection`` counts the connections since the door was first opened."""

    method: str
    path: str
    query: str
    content_type: str
    body: bytes
    connection: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What to answer, and how badly: seconds to wait before, seconds between two bytes, or hang up instead."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0
    drip: float = 0
    close: bool = False

    def rendered(self, *, last: bool) -> bytes:
        """The bytes of the answer; ``last`` announces that the connection ends with it."""
        lines = [f"HTTP/1.1 {self.status} {_phrase(self.status)}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        body = self.body
        if self.status in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}:
            body = b""  # a body here would be read as the next answer
        else:
            lines.append(f"Content-Length: {len(body)}")
        if last:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unnamed"


Respond = Callable[[Request], Answer]


class Server(socketserver.ThreadingTCPServer):
    """One spell of listening, from opening the door to shutting it."""

    allow_reuse_address = True
    request_queue_size = 4096

    def __init__(self, address: tuple[str, int], respond: Respond, numbers: itertools.count[int]) -> None:
        self.address_family = _family(address[0])
        self.respond = respond
        self._numbers = numbers
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._connections: dict[int, socket.socket] = {}  # by the thread that serves it
        super().__init__(address, _Handler, bind_and_activate=False)
        try:
            self.server_bind()
        except BaseException:
            self.server_close()
            raise

    def start_listening(self) -> bool:
        """From here on connections are taken; False when somebody else listens on this port."""
        try:
            self.server_activate()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        return True

    def get_request(self) -> tuple[socket.socket, int]:
        """Take a connection, with its number in place of the address, which nobody asks for."""
        connection, _ = super().get_request()
        return connection, next(self._numbers)

    def process_request_thread(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        """Serve one connection, in its own thread."""
        with self._lock:
            if not self.closing.is_set():
                self._connections[threading.get_ident()] = request
        super().process_request_thread(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        """The connection's thread is done with it."""
        self.spare_me()
        super().shutdown_request(request)

    def spare_me(self) -> None:
        """Do not cut the connection of the calling thread, so that it can still answer."""
        with self._lock:
            self._connections.pop(threading.get_ident(), None)

    def hang_up(self) -> None:
        """Cut all connections and wait until their threads have ended."""
        with self._lock:
            self.closing.set()
            for connection in self._connections.values():
                _cut(connection)
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - the name is socketserver's
        """Let the thread's excepthook tell of it: socketserver would print, and call it handled."""
        raise  # noqa: PLE0704 - this is called in an except clause


class _Handler(BaseHTTPRequestHandler):
    """One connection: requests one after the other, until either side has enough."""

    server: Server
    client_address: int  # type: ignore[assignment]  # the connection's number, see Server.get_request
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle(self) -> None:
        """Serve the connection; a client that goes away is no error here."""
        try:
            if not self.server.closing.is_set():
                super().handle()
        except OSError:
            self.close_connection = True

    def do_GET(self) -> None:
        """Answer a GET."""
        self._serve()

    def do_POST(self) -> None:
        """Answer a POST."""
        self._serve()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""

    def _serve(self) -> None:
        body, problem = self._body()
        if problem:
            self._send(Answer(status=problem, body=_phrase(problem).encode()), last=True)
            return
        path, _, query = self.path.partition("?")
        request = Request(self.command, path, query, self.headers.get("Content-Type", ""), body, self.client_address)
        answer = self.server.respond(request)
        if answer.delay and self.server.closing.wait(answer.delay):
            raise ConnectionAbortedError(errno.ECONNABORTED, "stopped before the answer was due")
        if answer.close:
            self.close_connection = True
        else:
            self._send(answer, last=self.close_connection or self.server.closing.is_set())

    def _body(self) -> tuple[bytes, int]:
        """The request's body, or the status that says why it cannot be read."""
        if self.headers.get("Transfer-Encoding"):
            return b"", HTTPStatus.LENGTH_REQUIRED
        length = self.headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdigit()):
            return b"", HTTPStatus.BAD_REQUEST
        if int(length) > _MOST_BYTES:
            return b"", HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise ConnectionResetError(errno.ECONNRESET, "the client left in the middle of its request")
        return body, 0

    def _send(self, answer: Answer, *, last: bool) -> None:
        self.close_connection = last
        rendered = answer.rendered(last=last)
        if not answer.drip:
            self.wfile.write(rendered)
            return
        for index in range(len(rendered)):
            self.wfile.write(rendered[index : index + 1])
            if self.server.closing.wait(answer.drip):
                raise ConnectionAbortedError(errno.ECONNABORTED, "stopped in the middle of an answer")


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side was quicker
        connection.shutdown(socket.SHUT_RDWR)
