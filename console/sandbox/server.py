"""The sandbox's HTTP/1.1: requests read by httptools, and answers that may come late, in drips or not at all.

Each connection is a task with asyncio's streams; ``door`` accepts connections and starts the tasks. Connections are
kept alive, and each answer leaves at once and in one piece (asyncio sets TCP_NODELAY). No name is looked up in the DNS
and nothing is printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

_HEAD_BYTES = 131_072  # of a request; an event may come in the query
_BODY_BYTES = 1_000_000  # of a request; our events have 64 KB at most


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


async def serve(connection: socket.socket, number: int, respond: Respond, is_open: Callable[[], bool]) -> None:
    """Serve one connection: requests one after the other, until either side has enough.

    Args:
        connection: Its socket.
        number: Which connection it is.
        respond: Called with each request.
        is_open: Whether the door is still open when an answer is ready; else the answer is the last one.
    """
    reader, writer = await asyncio.open_connection(sock=connection, limit=_HEAD_BYTES)
    try:
        with contextlib.suppress(asyncio.IncompleteReadError):  # the client sends no more
            while await _exchange(reader, writer, number, respond, is_open):
                pass
        writer.close()
        await writer.wait_closed()
    except BaseException as error:  # else nothing is left to abort, and asyncio fails to do so
        writer.transport.abort()
        if not isinstance(error, OSError):  # that is a client which has gone away
            raise


async def _exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    number: int,
    respond: Respond,
    is_open: Callable[[], bool],
) -> bool:
    """Read a request and answer it; whether the connection goes on."""
    try:
        request, goes_on = await _request(reader, writer, number)
    except _Refused as refused:
        await _send(writer, Answer(status=refused.status, body=_phrase(refused.status).encode()), last=True)
        return False
    answer = respond(request)
    await asyncio.sleep(answer.delay)
    if answer.close:
        return False
    goes_on = goes_on and is_open()
    await _send(writer, answer, last=not goes_on)
    return goes_on


async def _request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> tuple[Request, bool]:
    """The next request, and whether the client keeps the connection afterwards."""
    try:
        head = _Head(await reader.readuntil(b"\r\n\r\n"))
    except HttpParserError as error:
        raise _Refused(HTTPStatus.BAD_REQUEST) from error
    except asyncio.LimitOverrunError as error:
        raise _Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE) from error
    if head.method not in {"GET", "POST"}:
        raise _Refused(HTTPStatus.NOT_IMPLEMENTED)
    if b"transfer-encoding" in head.headers:
        raise _Refused(HTTPStatus.LENGTH_REQUIRED)
    length = int(head.headers.get(b"content-length", b"0"))  # httptools has refused what is no number
    if length > _BODY_BYTES:
        raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    if head.headers.get(b"expect", b"").lower() == b"100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = await reader.readexactly(length)
    path, _, query = head.url.decode("latin-1").partition("?")
    content_type = head.headers.get(b"content-type", b"").decode("latin-1")
    return Request(head.method, path, query, content_type, body, number), head.keeps_alive


async def _send(writer: asyncio.StreamWriter, answer: Answer, *, last: bool) -> None:
    rendered = answer.rendered(last=last)
    step = 1 if answer.drip else len(rendered)
    for start in range(0, len(rendered), step):
        writer.write(rendered[start : start + step])
        await writer.drain()
        await asyncio.sleep(answer.drip)


class _Refused(Exception):
    """A request that cannot be taken, and the status that says why."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _Head:
    """The head of a request; httptools calls the ``on_`` methods. HttpParserError when it is not HTTP."""

    def __init__(self, received: bytes) -> None:
        self.url = b""
        self.headers: dict[bytes, bytes] = {}
        parser = HttpRequestParser(self)
        with contextlib.suppress(HttpParserUpgrade):  # the offer of another protocol is declined by passing it over
            parser.feed_data(received)
        self.method = parser.get_method().decode()
        self.keeps_alive = parser.should_keep_alive()

    def on_url(self, url: bytes) -> None:
        """A piece of the URL."""
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        self.headers[name.lower()] = value
