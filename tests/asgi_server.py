"""An ASGI application under a real uvicorn in a thread of its own, and a browser without scripts to visit it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from http.cookies import SimpleCookie
from typing import Any, NamedTuple

import uvicorn
from waiting import PATIENCE_SECONDS, wait_until


@contextmanager
def serving(app: Any, **config: Any) -> Iterator[int]:
    """Serve an application, from the start of its lifespan to its end; yields its port on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        # h11, as in a shop that has no httptools; the servers that tests start as processes use httptools.
        config = {"lifespan": "on", "log_config": None, "ws": "none", "http": "h11"} | config
        server = uvicorn.Server(uvicorn.Config(app, **config))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until(lambda: server.started or not thread.is_alive(), PATIENCE_SECONDS)
            yield port
        finally:
            server.should_exit = True
            thread.join()
    assert not server.lifespan.error_occurred


class Answer(NamedTuple):
    """What came back."""

    status: int
    text: str
    set_cookies: list[str]


class Browser:
    """One person's browser: it keeps its cookies, and opens a connection for each page."""

    def __init__(self, port: int, **cookies: str) -> None:
        self.port = port
        self.cookies = cookies

    def get(self, path: str, **headers: str) -> Answer:
        return self.open("GET", path, b"", **headers)

    def open(self, method: str, path: str, body: bytes, **headers: str) -> Answer:
        """Send a request; a header's name is written with ``_`` for ``-``."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        given.setdefault("Host", "shop.example.com")
        if self.cookies:
            given.setdefault("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))
        with self.connection() as connection:
            connection.request(method, path, body, given)
            response = connection.getresponse()
            answer = Answer(response.status, response.read().decode(), response.headers.get_all("Set-Cookie") or [])
        for cookie in answer.set_cookies:
            self.cookies |= {name: morsel.value for name, morsel in SimpleCookie(cookie).items()}
        return answer

    def connection(self) -> closing[HTTPConnection]:
        """A connection to the server."""
        return closing(HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS))


def raw(port: int, request: bytes) -> bytes:
    """Send these very bytes; all that comes back until the server hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(request)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return answer
