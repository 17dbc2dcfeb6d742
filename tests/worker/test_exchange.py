"""An answer is read alike in one piece, where a regular expression may do, and byte by byte, where http.client must."""

from __future__ import annotations

from http.client import HTTPException

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insend_relay.worker import exchange
from insend_relay.worker.exchange import BODY_BYTES, Answer, Ended, receive

USUAL = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 2\r\n\r\nOK"
OTHERS = {
    "no reason": b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nOK",
    "kept alive": b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nOK",
    "other capitals": b"HTTP/1.1 200 OK\r\nCONTENT-LENGTH: 2\r\nconnection: Keep-Alive\r\n\r\nOK",
    "kept for a while": b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5, max=99\r\nContent-Length: 2\r\n\r\nOK",
    "kept, said twice": b"HTTP/1.1 200 OK\r\nkeep-alive: max=9\r\nKeep-Alive: Timeout=5\r\nContent-Length: 0\r\n\r\n",
    "kept for no time": b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=0\r\nContent-Length: 2\r\n\r\nOK",
    "refused": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 5\r\n\r\nwrong",
    "asked to wait": b"HTTP/1.1 429 No\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK\r\n0\r\n\r\n",
    "chunked, counted": b"HTTP/1.1 200 \r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK\r\n0\r\n\r\n",
    "empty": b"HTTP/1.1 204 No Content\r\n\r\n",
    "empty, counted": b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
    "announced": b"HTTP/1.1 100 Continue\r\n\r\n" + USUAL,
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + USUAL,
    "long": b"HTTP/1.1 500 Oh\r\nContent-Length: 4096\r\n\r\n" + b"x" * 4096,
}
CLOSING = {
    "says so": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nOK",
    "says so and more": b"HTTP/1.1 200 OK\r\nConnection: keep-alive, close\r\nContent-Length: 2\r\n\r\nOK",
    "of old": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nOK",
    "uncounted": b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\nOK",
    "too long": b"HTTP/1.1 500 Oh\r\nContent-Length: 50000\r\n\r\n" + b"x" * 50_000,
    "cut short": b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nOnly this",
    "counted twice": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nOK!",
    "one more behind it": USUAL + USUAL,
    "switched": b"HTTP/1.1 101 Switching Protocols\r\nContent-Length: 0\r\n\r\n",
    "counted for somebody else": b"HTTP/1.1 200 OK\r\nX-Content-Length: 2\r\n\r\nOK",
    "trailers that break off": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK\r\n0\r\nX: y\r\n",
}


class Saying:
    """A socket on which a tracker says something, so many bytes at a time, and nothing more."""

    def __init__(self, answer: bytes, at_once: int) -> None:
        self._rest, self._at_once = answer, at_once

    def recv(self, most: int) -> bytes:
        piece, self._rest = self._rest[: min(most, self._at_once)], self._rest[min(most, self._at_once) :]
        return piece


def read(answer: bytes, *, at_once: bool) -> Answer:
    """What is made of an answer that comes in one piece, or byte by byte."""
    return receive(Saying(answer, len(answer) if at_once else 1))


class Endless:
    """A socket on which there is always something to read.

    Attributes:
        said: How many bytes were.
    """

    def __init__(self, first: bytes, again: bytes) -> None:
        self.said = 0
        self._next, self._again = first, again

    def recv(self, most: int) -> bytes:
        piece, self._next = self._next[:most], self._again
        self.said += len(piece)
        assert self.said < 1_000_000, "it would go on for ever, and nobody else would get a turn"
        return piece


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK\r\n0\r\n", b"X-Trailer: y\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 10_000 + b"\r\ny\r\n"),
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"X: " + b"x" * 10_000 + b"\r\n"),
    ],
    ids=["100", "trailers", "chunks", "103", "headers"],
)
def test_an_endless_answer_ends_and_its_connection_is_not_used_again(first: bytes, again: bytes) -> None:
    try:
        answer = receive(Endless(first or again, again))
    except HTTPException:
        return
    assert (answer.status, answer.reusable) == (200, False)


@pytest.mark.parametrize("said", [b"", b"Connection: keep-alive\r\n", b"connection:Keep-Alive \r\n"])
def test_the_usual_answer_is_read_without_http_client(monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    monkeypatch.setattr(exchange, "_by_the_book", None)
    assert read(b"HTTP/1.1 200 OK\r\n" + said + b"Content-Length: 2\r\n\r\nOK", at_once=True).reusable


@pytest.mark.parametrize("answer", [USUAL, *OTHERS.values()], ids=["usual", *OTHERS])
def test_an_answer_is_the_same_in_one_piece_and_byte_by_byte(answer: bytes) -> None:
    whole = read(answer, at_once=True)
    assert whole == read(answer, at_once=False)
    assert whole.reusable


@pytest.mark.parametrize("answer", CLOSING.values(), ids=CLOSING)
def test_after_an_answer_that_does_not_end_where_it_says_the_connection_is_not_used_again(answer: bytes) -> None:
    assert not read(answer, at_once=True).reusable


def test_the_usual_answer_and_what_is_told_of_the_others() -> None:
    assert read(USUAL, at_once=True) == Answer(200, b"OK", None, reusable=True)
    assert read(OTHERS["asked to wait"], at_once=True) == Answer(429, b"", "7", reusable=True)
    assert read(OTHERS["announced"], at_once=True).status == 200
    assert read(OTHERS["chunked"], at_once=True).body == b"OK"
    assert len(read(CLOSING["too long"], at_once=True).body) == BODY_BYTES
    assert read(CLOSING["cut short"], at_once=True) == Answer(200, b"Only this", None, reusable=False)


@given(st.binary(max_size=60), st.integers(0, len(USUAL)), st.integers(0, 20))
def test_a_mutilated_answer_is_read_alike_or_refused_alike(noise: bytes, at: int, cut: int) -> None:
    answer = USUAL[:at] + noise + USUAL[at + cut :]

    def made_of_it(*, at_once: bool) -> tuple[int, bytes] | str:
        try:
            said = read(answer, at_once=at_once)
        except (HTTPException, OSError, ValueError):
            return "no answer"
        return said.status, said.body

    assert made_of_it(at_once=True) == made_of_it(at_once=False)


def test_a_200_whose_head_is_still_coming_when_the_call_is_ended_counts() -> None:
    class Dripping(Saying):
        def recv(self, most: int) -> bytes:
            if not self._rest:
                raise Ended
            return super().recv(most)

    assert receive(Dripping(b"HTTP/1.1 200 OK\r\nServer: x\r\n", 1)) == Answer(200, b"", None, reusable=False)
    with pytest.raises(Ended):
        receive(Dripping(b"HTTP/1.1 200 OK", 1))


@pytest.mark.parametrize("more", [b"", b"Transfer-Encoding: identity\r\n"], ids=["usual", "by the book"])
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"timeout=5", 4),
        (b"max=100, TIMEOUT = 5", 4),
        (b'timeout="5"', 4),
        (b"timeout=1", 0),
        (b"timeout=0", 0),
        (b"max=100", None),
        (b"timeout=soon", None),
        (b"", None),
    ],
)
def test_a_connection_may_be_idle_for_a_second_less_than_the_server_keeps_it(
    value: bytes, seconds: float | None, more: bytes
) -> None:
    answer = b"HTTP/1.1 200 OK\r\nKeep-Alive: " + value + b"\r\n" + more + b"Content-Length: 2\r\n\r\nOK"
    assert read(answer, at_once=True).idle_seconds == seconds
