"""The answer to one POST, read from its connection by httptools (the parser of Node.js, llhttp).

The status counts as soon as the status line of the first final answer is complete, whatever becomes of the rest: a 200
is a delivered event. What is wrong with the rest decides only whether the connection may be used again. It may not when
the answer ends early or has no length, gives both lengths (Content-Length and Transfer-Encoding), is followed by
further bytes, has a longer body than we read, or cannot be parsed to its end.

Line ends may be a bare LF (RFC 9112, 2.2). All else is read strictly: a head that is only nearly HTTP gives its status
and nothing more. An interim answer (1xx) is passed over, except 101, after which the connection speaks no HTTP.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

SWITCHED = 101  # what follows it is not HTTP
BODY_BYTES = 4096  # how much of a body is kept, and read
_LOWEST_FINAL = 200  # interim answers have a lower status
_RECV_BYTES = 16_384
# Of one answer, its interim answers and trailers among them. While bytes keep coming, recv gives no other greenlet its
# turn, not even the deadline of the call: an endless answer would hold up all of them.
_MAX_BYTES = 131_072
_LENGTHS = frozenset({b"content-length", b"transfer-encoding"})
_KEPT_HEADERS = frozenset({*_LENGTHS, b"keep-alive", b"location", b"retry-after"})
_KEEP_ALIVE = re.compile(rb"timeout *= *\"?(\d{1,9})", re.IGNORECASE)


class Ended(BaseException):
    """The call was ended from outside, wherever it was: no handler of errors on the way may keep it."""


class NoAnswer(Exception):
    """No status came; the text says why, with nothing in it of what was sent or answered."""


class Answer(NamedTuple):
    """What a tracker said.

    Attributes:
        status: The HTTP status.
        body: The first 4 KB of the body; what there was of it when it broke off.
        retry_after: The header, when there is one.
        reusable: Whether the connection is fit for another exchange: the answer ended where it said that it would.
        idle_seconds: For how long it may be idle until then, when the answer says so.
        location: The header, when there is one: where a redirect leads.
    """

    status: int
    body: bytes
    retry_after: str | None
    reusable: bool
    idle_seconds: float | None = None
    location: str | None = None


def receive(connection: Any) -> Answer:
    """Read the answer to a POST from a socket.

    Raises:
        NoAnswer: What came is not HTTP, or ended before the status line did.
        OSError: The connection broke before there was a status.
        Ended: The call was ended before there was a status.
    """
    reader = _Reader()
    try:
        reader.read(connection)
    except (HttpParserError, HttpParserUpgrade) as error:
        reader.reusable = False
        if not reader.has_status():
            raise NoAnswer("the answer is not HTTP") from error
    except (OSError, Ended):
        if not reader.has_status():
            raise
    else:
        if not reader.has_status():
            raise NoAnswer("connection broken" if reader.left else "no status within 128 KB")
    return reader.answer()


class _Reader:
    """Reads one answer; httptools calls its ``on_`` methods.

    Attributes:
        status: The status of the final answer once its headers are complete; 0 before.
        left: How many more bytes may be read.
        reusable: Whether it has ended where it said that it would, and nothing follows.
    """

    status = 0
    left = _MAX_BYTES
    reusable = False
    _body = b""
    _enough = BODY_BYTES + 1  # bytes of the body: one more than we keep shows that it is longer
    _retry_after: str | None = None
    _location: str | None = None
    _idle_seconds: float | None = None
    _both_lengths = _ended = False
    _parser: Any = None

    def __init__(self) -> None:
        self._head: list[bytes] = []
        self._headers: dict[bytes, bytes] = {}

    def read(self, connection: Any) -> None:
        """Read until the answer ends, or is longer than we want, or the connection ends."""
        parser = self._parser = _parser(self)
        try:
            while self.left and (piece := connection.recv(min(self.left, _RECV_BYTES))):
                self.left -= len(piece)
                if not self.status:
                    self._head.append(piece)
                parser.feed_data(piece)
                if self._ended or len(self._body) >= self._enough:
                    return
        finally:
            self._parser = None  # it refers to our methods: a reference cycle for each POST would be work for the gc

    def has_status(self) -> bool:
        """Whether there is a status: that of a whole head, or else of a status line that is complete."""
        self.status = self.status or _status_of(b"".join(self._head))
        return self.status > 0

    def answer(self) -> Answer:
        """What was read, once there is a status."""
        body = self._body[: min(self._enough, BODY_BYTES)]
        return Answer(self.status, body, self._retry_after, self.reusable, self._idle_seconds, self._location)

    def on_message_begin(self) -> None:
        """A message begins. One that follows the final one belongs to no request of ours."""
        self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header or a trailer has come."""
        if (name := name.lower()) in _KEPT_HEADERS:
            before = self._headers.get(name)
            self._headers[name] = value if before is None else b"%b, %b" % (before, value)

    def on_headers_complete(self) -> None:
        """A head is complete: of an interim answer, of the final one, or of one that follows it."""
        headers, self._headers = self._headers, {}
        if self.status or not _is_final(status := self._parser.get_status_code()):
            return
        if not _is_http(b"".join(self._head)):
            raise HttpParserError("another protocol")
        self.status = status
        if status == SWITCHED:
            self._enough = 0
        elif b"transfer-encoding" in headers and b"content-length" in headers:
            self._both_lengths = True
            self._enough = min(self._enough, int(headers[b"content-length"]))  # the other one may have no end
        if not headers.keys() <= _LENGTHS:
            self._retry_after, self._location = _text(headers.get(b"retry-after")), _text(headers.get(b"location"))
            self._idle_seconds = _idle_seconds(headers.get(b"keep-alive", b""))

    def on_body(self, body: bytes) -> None:
        """A piece of a body has come."""
        if not self._ended:
            self._body += body

    def on_message_complete(self) -> None:
        """A message ends where it said that it would."""
        if self.status and not self._ended:
            self._ended = True
            fits = len(self._body) < self._enough
            self.reusable = fits and not self._both_lengths and self._parser.should_keep_alive()


def _parser(callbacks: object) -> HttpResponseParser:
    """A parser that takes what RFC 9112 lets a client take: a bare LF (2.2) and both lengths in one answer (6.3).

    And, by ``lenient_keep_alive``, what follows an interim answer of HTTP/1.0 or with ``Connection: close``.
    """
    parser = HttpResponseParser(callbacks)
    parser.set_dangerous_leniencies(
        lenient_optional_cr_before_lf=True, lenient_chunked_length=True, lenient_keep_alive=True
    )
    return parser


def _status_of(head: bytes) -> int:
    """The status of an answer whose head broke off or is not HTTP to its end; 0 if the status line is not complete.

    The head is parsed once more, line by line, because httptools does not tell where the status line ends.
    """
    if not _is_http(head):
        return 0
    parser = _parser(None)
    try:
        for line in head.splitlines(keepends=True):
            parser.feed_data(line)
            if line.endswith(b"\n") and _is_final(status := parser.get_status_code()):
                return status
    except (HttpParserError, HttpParserUpgrade):
        pass
    return 0


def _is_http(head: bytes) -> bool:
    """Whether it says so; httptools reads RTSP and ICE, too."""
    return head.lstrip(b"\r\n").startswith(b"HTTP/")


def _is_final(status: int) -> bool:
    return status >= _LOWEST_FINAL or status == SWITCHED


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.strip().decode("latin-1")


def _idle_seconds(keep_alive: bytes) -> float | None:
    """One second less than the server promises: a request on its way must not meet the end of the connection."""
    promised = _KEEP_ALIVE.search(keep_alive)
    return max(0.0, int(promised[1]) - 1.0) if promised else None
