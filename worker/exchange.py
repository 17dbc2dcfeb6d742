"""One POST on an open connection, and its answer: http.client's job, done cheaply where the answer is the usual one.

A tracker's answer nearly always is a short one of a known length that arrives in one piece. Such a one is read here by
one regular expression; any other, down to the last oddity that HTTP allows, is left to http.client, with the bytes that
have come put before the rest. What is read either way is the same: status, the beginning of the body, Retry-After, and
how long the server keeps an idle connection.
"""

from __future__ import annotations

import re
from http.client import BadStatusLine, HTTPException, HTTPResponse, parse_headers
from typing import Any, NamedTuple

SWITCHED = 101  # what follows is no HTTP
BODY_BYTES = 4096  # as much of an answer as anybody will read
_INTERIM = range(102, 200)  # an answer follows; 101 would be the last of HTTP, and 100 is http.client's business
_AT_ONCE = 16_384
_MOST_BYTES = 131_072  # of an answer, its interim ones, headers and trailers among them; who sends more would never end

# A status line and its headers; no status without a body, none that another answer follows. The headers begin with the
# end of the status line: a search for a line that begins with "\n" takes half the time of one for a word.
_USUAL = re.compile(rb"HTTP/1\.1 (2(?!04)|3(?!04)|4|5)(\d\d) [^\r\n]*\r(\n(?:[\w-]+:[^\r\n]*\r\n)*)\r\n")
_LENGTH = re.compile(rb"\ncontent-length: *(\d{1,9}) *\r\n")
_KEEP_ALIVE = re.compile(r"timeout *= *\"?(\d{1,9})", re.ASCII | re.IGNORECASE)
_KEEP_ALIVE_LINES = re.compile(rb"\nkeep-alive:([^\r\n]*)")
_SPECIAL = re.compile(rb"\n(?:transfer-encoding:|retry-after:|location:|connection:(?! *keep-alive *\r\n))")


class Ended(BaseException):
    """The call was ended from outside, wherever it was: no handler of errors on the way may keep it."""


class Answer(NamedTuple):
    """What a tracker said.

    Attributes:
        status: The HTTP status.
        body: The beginning of the body; what there was of it when it broke off.
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
        HTTPException: What came is no HTTP, or its status line broke off.
        OSError: The connection broke before there was a status.
    """
    came = connection.recv(_AT_ONCE)
    head = _USUAL.match(came)
    if head is not None:
        headers = head[3].lower()
        lengths = _LENGTH.findall(headers)
        whole = len(lengths) == 1 and headers.count(b"content-length") == 1 and _SPECIAL.search(headers) is None
        if whole and head.end() + int(lengths[0]) == len(came):
            lines = _KEEP_ALIVE_LINES.findall(headers) if b"keep-alive:" in headers else ()
            idle_seconds = _idle_seconds(b",".join(lines).decode("latin-1")) if lines else None
            body = came[head.end() :][:BODY_BYTES]
            return Answer(int(head[1] + head[2]), body, None, reusable=True, idle_seconds=idle_seconds)
    return _by_the_book(came, connection)


def _by_the_book(came: bytes, connection: Any) -> Answer:
    source = _Source(came, connection)
    response = _Response(source, method="POST")  # type: ignore[arg-type]  # it is asked for a file only
    try:
        response.begin()
    except (HTTPException, OSError, ValueError, Ended):
        if not isinstance(response.status, int):
            raise
        return Answer(response.status, b"", None, reusable=False)  # the status counts, whatever becomes of the headers
    try:
        body = response.read(BODY_BYTES + 1)
        ended = response.isclosed() and not response.will_close and source.is_dry and response.status != SWITCHED
    except (HTTPException, OSError, ValueError, Ended):  # nor of the body
        body, ended = b"", False
    retry_after, location = response.getheader("Retry-After"), response.getheader("Location")
    idle_seconds = _idle_seconds(response.getheader("Keep-Alive", ""))
    return Answer(response.status, body[:BODY_BYTES], retry_after, ended, idle_seconds, location)


def _idle_seconds(keep_alive: str) -> float | None:
    """One second less than the server promises: a request on its way must not meet the end of the connection."""
    promised = _KEEP_ALIVE.search(keep_alive)
    return max(0.0, int(promised[1]) - 1.0) if promised else None


class _Source:
    """What has come, and then what comes, for http.client to read; it never reads further than it is asked to.

    It ends after 128 KB at the latest: while bytes keep coming, recv gives no other greenlet its turn, not even the
    call's deadline.

    Args:
        came: The bytes that were read already.
        connection: The socket.
    """

    def __init__(self, came: bytes, connection: Any) -> None:
        self._came, self._connection = came, connection
        self._left = _MOST_BYTES - len(came)
        self._over = not came

    def makefile(self, _: str) -> _Source:
        """A file, as of a socket."""
        return self

    @property
    def is_dry(self) -> bool:
        """Whether nothing came that the answer did not need (a second one would be nobody's), and more may come."""
        return not self._came and not self._over

    def readline(self, limit: int) -> bytes:
        """A line with its end, or what there is of it."""
        while (at := self._came.find(b"\n", 0, limit) + 1) == 0 and len(self._came) < limit and self._more():
            pass
        return self._take(at or limit)

    def read(self, amount: int) -> bytes:
        """So many bytes, or what there is of them."""
        while len(self._came) < amount and self._more():
            pass
        return self._take(amount)

    def _take(self, amount: int) -> bytes:
        taken, self._came = self._came[:amount], self._came[amount:]
        return taken

    def _more(self) -> bool:
        if not self._over:
            piece = self._connection.recv(_AT_ONCE)
            self._left -= len(piece)
            self._over = not piece or self._left < 0
            self._came += piece
        return not self._over

    def close(self) -> None:
        """The socket has another owner."""

    flush = close


class _WholeLines:
    """Reads lines; one that breaks off is none."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readline(self, limit: int) -> bytes:
        line: bytes = self._file.readline(limit)
        if line and not line.endswith(b"\n"):
            raise BadStatusLine("it breaks off")
        return line

    def close(self) -> None:
        self._file.close()


class _Response(HTTPResponse):
    """An answer that breaks off in its status line is none, though it say "HTTP/1.1 200": it may be our own cut.

    And what comes before the answer (103 Early Hints, say) is not the answer: http.client knows that of 100 alone.
    """

    fp: Any

    def _read_status(self) -> tuple[str, int, str]:
        file, self.fp = self.fp, _WholeLines(self.fp)
        try:
            while True:
                status: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]  # the stubs do not have it
                if status[1] not in _INTERIM:
                    return status
                parse_headers(self.fp)
        finally:
            self.fp = self.fp and file  # None once it is closed
