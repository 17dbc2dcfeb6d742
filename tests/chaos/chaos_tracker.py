"""A tracker of the chaos runs' own: records every POST that arrives, and answers in every way that an HTTP server can.

It shares no code with the sandbox: what it has written down is one side of the books, the producers' receipts are the
other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import ssl
import struct
import time
import zlib
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import parse_qs

from chaos_certificates import GOOD

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
STATUSES = (201, 204, 301, 302, 307, 400, 401, 403, 404, 408, 425, 429, 500, 501, 502, 503, 504, 599)
RETRY_AFTER = ("1", "0", "Wed, 21 Oct 2015 07:28:00 GMT", "soon", "99999999999")


class Event(NamedTuple):
    """What tells one event of a run from all others: whose it is, and its number there."""

    person: str
    number: int


@dataclass
class Arrival:
    """A POST that arrived whole.

    Attributes:
        event: Which.
        at: When, monotonic seconds.
        mode: How the tracker answered then.
        certificate: The one that was shown to whoever sent it; empty without TLS.
        accepted: Whether a status line 200 was written, so that the tracker holds it for counted.
        marked: Of an event that had been accepted before: whether it was marked as doubtful by now; None when nobody
            could say.
    """

    event: Event
    at: float
    mode: str
    certificate: str = ""
    accepted: bool = False
    marked: bool | None = None

    def __str__(self) -> str:
        return f"{self.at:.2f} {self.mode}{' accepted' if self.accepted else ''}"


Answer = Callable[["Tracker", asyncio.StreamWriter, Arrival], Awaitable[None]]


class Tracker:
    """The server; started and ended inside an event loop.

    Args:
        late_seconds: How long after the client's deadline a late answer comes.
        chances: For answers by chance.
        certificates: A context for each that it may show.
        witness: Asked of each event that had been accepted before, before it is answered; see ``Arrival.marked``.

    Attributes:
        arrivals: Every POST, in the order of arrival.
        mode: How it answers; a name of ``MODES``.
        certificate: Which it shows to new connections; a name of ``certificates``.
    """

    def __init__(
        self,
        late_seconds: float,
        chances: random.Random,
        certificates: dict[str, ssl.SSLContext],
        witness: Callable[[Event], bool | None],
    ) -> None:
        self.arrivals: list[Arrival] = []
        self.mode = "ok"
        self.certificate = GOOD
        self._certificates = certificates
        self._witness = witness
        self._earlier: defaultdict[Event, list[Arrival]] = defaultdict(list)
        self.late_seconds = late_seconds
        self.chances = chances
        self.port = self.tls_port = 0
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20)
        door = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        door.sni_callback = self._show_certificate
        self._tls = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20, ssl=door)
        self.port, self.tls_port = (server.sockets[0].getsockname()[1] for server in (self._server, self._tls))

    async def stop(self) -> None:
        """Hang up on everybody."""
        self._server.close()
        self._tls.close()
        for writer in list(self._open):
            writer.transport.abort()

    def has(self, event: Event) -> bool:
        """Whether it has accepted an event."""
        return any(arrival.accepted for arrival in self._earlier.get(event, ()))

    def _show_certificate(self, handshake: ssl.SSLObject, *_: object) -> None:
        handshake.context = self._certificates[self.certificate]

    def _shown(self, writer: asyncio.StreamWriter) -> str:
        handshake: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
        if handshake is None:
            return ""
        return next(name for name, context in self._certificates.items() if context is handshake.context)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.lower().split(b"\r\n")
                length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
                event = _event(await reader.readexactly(length))
                arrival = Arrival(event, time.monotonic(), self.mode, self._shown(writer))
                self.arrivals.append(arrival)
                again = any(earlier.accepted for earlier in self._earlier[event])
                self._earlier[event].append(arrival)
                if again:
                    arrival.marked = await asyncio.to_thread(self._witness, event)
                await MODES[self.mode](self, writer, arrival)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):  # whoever hung up first
            pass
        finally:
            self._open.discard(writer)
            writer.transport.abort()


def _event(body: bytes) -> Event:
    properties = json.loads(parse_qs(body.decode())["data"][0])["properties"]
    return Event(properties["person"], properties["number"])


async def _ok(_: Tracker, writer: asyncio.StreamWriter, arrival: Arrival) -> None:
    arrival.accepted = True
    writer.write(OK)


async def _slow(tracker: Tracker, writer: asyncio.StreamWriter, arrival: Arrival) -> None:
    await asyncio.sleep(tracker.late_seconds / 20)
    await _ok(tracker, writer, arrival)


async def _late(tracker: Tracker, writer: asyncio.StreamWriter, arrival: Arrival) -> None:
    """After the client has given up: for this tracker the event counts."""
    arrival.accepted = True
    await asyncio.sleep(tracker.late_seconds)
    writer.write(OK)


async def _status(tracker: Tracker, writer: asyncio.StreamWriter, _: Arrival) -> None:
    status = tracker.chances.choice(STATUSES)
    headers = f"Location: http://127.0.0.1:{tracker.port}/elsewhere\r\n" if status in {301, 302, 307} else ""
    if status in {429, 503} and tracker.chances.random() < 0.5:
        headers = f"Retry-After: {tracker.chances.choice(RETRY_AFTER)}\r\n"
    writer.write(f"HTTP/1.1 {status} Whatever\r\n{headers}Content-Length: 0\r\n\r\n".encode())


async def _some_status(tracker: Tracker, writer: asyncio.StreamWriter, arrival: Arrival) -> None:
    await (_status if tracker.chances.random() < 0.3 else _ok)(tracker, writer, arrival)


async def _reset(_: Tracker, writer: asyncio.StreamWriter, __: Arrival) -> None:
    connection: socket.socket | None = writer.get_extra_info("socket")
    if connection is not None:  # under TLS there is none when the client hung up first
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    raise ConnectionResetError


async def _interim(tracker: Tracker, writer: asyncio.StreamWriter, arrival: Arrival) -> None:
    """An interim answer, and then nothing for long."""
    writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
    await asyncio.sleep(tracker.late_seconds)
    await _reset(tracker, writer, arrival)


async def _garbage(tracker: Tracker, writer: asyncio.StreamWriter, arrival: Arrival) -> None:
    writer.write(tracker.chances.randbytes(200) + b"\r\n\r\n")
    await writer.drain()
    await _reset(tracker, writer, arrival)


async def _endless(writer: asyncio.StreamWriter, beginning: bytes, piece: bytes, pause: float) -> None:
    writer.write(beginning)
    while not writer.is_closing():
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(pause)


async def _endless_headers(_: Tracker, writer: asyncio.StreamWriter, __: Arrival) -> None:
    await _endless(writer, b"HTTP/1.1 500 Whatever\r\n", b"X-More: and more\r\n", 0.001)


async def _endless_body(_: Tracker, writer: asyncio.StreamWriter, arrival: Arrival) -> None:
    arrival.accepted = True
    await _endless(writer, b"HTTP/1.1 200 OK\r\n\r\n", b"and more " * 100, 0.001)


async def _dripped_head(tracker: Tracker, writer: asyncio.StreamWriter, arrival: Arrival) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(4 * tracker.late_seconds):
            await _endless(writer, b"HTTP/1.1 2", b"0", 0.2)
    await _reset(tracker, writer, arrival)


async def _dripped_body(tracker: Tracker, writer: asyncio.StreamWriter, arrival: Arrival) -> None:
    arrival.accepted = True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(4 * tracker.late_seconds):
            await _endless(writer, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b".", 0.2)
    await _reset(tracker, writer, arrival)


async def _gzip_bomb(_: Tracker, writer: asyncio.StreamWriter, arrival: Arrival) -> None:
    arrival.accepted = True
    bomb = zlib.compress(b"\0" * 50_000_000, 9)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nContent-Length: {len(bomb)}\r\n\r\n"
    writer.write(head.encode() + bomb)


async def _wrong_length(_: Tracker, writer: asyncio.StreamWriter, arrival: Arrival) -> None:
    arrival.accepted = True
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nOK")
    await writer.drain()
    await asyncio.sleep(0.01)
    writer.close()
    raise ConnectionResetError


MODES: dict[str, Answer] = {
    "ok": _ok,
    "slow": _slow,
    "late": _late,
    "any status": _status,
    "some status": _some_status,
    "reset": _reset,
    "interim": _interim,
    "garbage": _garbage,
    "endless headers": _endless_headers,
    "endless body": _endless_body,
    "dripped head": _dripped_head,
    "dripped body": _dripped_body,
    "gzip bomb": _gzip_bomb,
    "wrong length": _wrong_length,
}
