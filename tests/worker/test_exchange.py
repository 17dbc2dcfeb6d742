"""What is made of an answer: the same however it is cut into pieces, and a status as soon as there is one."""

from __future__ import annotations

import gc
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insend_relay.worker.exchange import BODY_BYTES, Answer, Ended, NoAnswer, receive

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
    "chunked, with a trailer": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nOK\r\n0\r\nX: y\r\n\r\n",
    "empty": b"HTTP/1.1 204 No Content\r\n\r\n",
    "empty, counted": b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
    "announced": b"HTTP/1.1 100 Continue\r\n\r\n" + USUAL,
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + USUAL,
    "several interim ones": b"HTTP/1.1 102 \r\n\r\nHTTP/1.1 100\r\n\r\nHTTP/1.1 103 \r\nLink: x\r\n\r\n" + USUAL,
    "interim of old": b"HTTP/1.0 100 Continue\r\n\r\n" + USUAL,
    "interim that closes": b"HTTP/1.1 103 Early Hints\r\nConnection: close\r\n\r\n" + USUAL,
    "interim with a length": b"HTTP/1.1 100 Continue\r\nContent-Length: 7\r\n\r\n" + USUAL,
    "long": b"HTTP/1.1 500 Oh\r\nContent-Length: 4096\r\n\r\n" + b"x" * 4096,
    "no space behind the status": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nOK",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 2\nKeep-Alive: timeout=5\n\nOK",
    "blank lines before it": b"\r\n\n" + USUAL,
    "HTTP/1.0 kept alive": b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nOK",
    "an empty header": b"HTTP/1.1 200 OK\r\nX:\r\nContent-Length: 2\r\nY: \r\n\r\nOK",
}
CLOSING = {
    "says so": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nOK",
    "says so and more": b"HTTP/1.1 200 OK\r\nConnection: keep-alive, close\r\nContent-Length: 2\r\n\r\nOK",
    "of days to come": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nOK",
    "of old": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nOK",
    "uncounted": b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\nOK",
    "too long": b"HTTP/1.1 500 Oh\r\nContent-Length: 50000\r\n\r\n" + b"x" * 50_000,
    "cut short": b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nOnly this",
    "a byte too long": b"HTTP/1.1 500 Oh\r\nContent-Length: 4097\r\n\r\n" + b"x" * 4097,
    "counted twice": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nOK!",
    "counted twice alike": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nOK",
    "both lengths": b"HTTP/1.1 200 \r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK\r\n0\r\n\r\n",
    "both lengths, turned": b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    "one more behind it": USUAL + USUAL,
    "the beginning of one behind it": USUAL + b"H",
    "a longer body than it says": USUAL + b"!",
    "more than the last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK\r\n0\r\n\r\n0\r\n\r\n",
    "a body where none may be": b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nOK",
    "switched": b"HTTP/1.1 101 Switching Protocols\r\nContent-Length: 0\r\n\r\n",
    "switched, and what": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n\0\1",
    "counted for somebody else": b"HTTP/1.1 200 OK\r\nX-Content-Length: 2\r\n\r\nOK",
    "trailers that break off": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK\r\n0\r\nX: y\r\n",
}


# A status line as it should be, and then something that is not HTTP: the status counts, and no more is known.
BROKEN_HEADS = {
    "a folded line": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nOK",
    "a space before the colon": b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nOK",
    "no colon": b"HTTP/1.1 200 OK\r\nwhat is this\r\nContent-Length: 2\r\n\r\nOK",
    "no number": b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nOK",
    "a negative number": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nOK",
    "two numbers": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nOK",
    "a number without end": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 40 + b"\r\n\r\nOK",
    "a control character": b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nOK",
    "after interim ones": b"HTTP/1.1 100 \r\n\r\nHTTP/1.1 103 \nX: y\n\nHTTP/1.1 200 OK\r\nX : y\r\n\r\n",
    "it breaks off": b"HTTP/1.1 200 OK\r\nContent-Le",
    "it breaks off at once": b"HTTP/1.1 200 OK\r\n",
    "it breaks off, bare LF": b"HTTP/1.1 200\n",
}
NOT_HTTP = {
    "nothing like it": b"garbage\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "bytes of TLS": b"\x15\x03\x01\x00\x02\x02\x46",
    "another version": b"HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nOK",
    "small letters": b"http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK",
    "a space before": b" " + USUAL,
    "two spaces": b"HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nOK",
    "a tab": b"HTTP/1.1\t200 OK\r\nContent-Length: 2\r\n\r\nOK",
    "a tab behind the status": b"HTTP/1.1 200\tOK\r\nContent-Length: 2\r\n\r\nOK",
    "no space before the reason": b"HTTP/1.1 200OK\r\nContent-Length: 2\r\n\r\nOK",
    "a longer status": b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nOK",
    "a shorter status": b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nOK",
    "a status below all": b"HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nOK",
    "a status of zeros": b"HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\nOK",
    "a sign": b"HTTP/1.1 +20 OK\r\nContent-Length: 2\r\n\r\nOK",
    "a bare CR": b"HTTP/1.1 200 O\rK\r\nContent-Length: 2\r\n\r\nOK",
    "RTSP": b"RTSP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nOK",
    "RTSP, cut": b"RTSP/1.0 200 OK\r\nContent-Le",
    "ICE": b"\r\nICE/1.0 200 OK\r\nContent-Length: 2\r\n\r\nOK",
    "a broken interim one": b"HTTP/1.1 103 Early Hints\r\nX : y\r\n\r\n" + USUAL,
    "no answer": b"",
    "a cut status line": b"HTTP/1.1 200 OK",
    "a cut status line, CR": b"HTTP/1.1 200 OK\r",
    "only interim ones": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n",
}


class Saying:
    """A socket on which a tracker says something, in pieces, and nothing more.

    Args:
        answer: What it says.
        cuts: Where one piece ends and the next begins.

    Attributes:
        rest: What has not been read.
    """

    def __init__(self, answer: bytes, cuts: Iterable[int] = ()) -> None:
        self.rest = answer
        ends = sorted({cut for cut in cuts if 0 < cut < len(answer)} | {len(answer)}, reverse=True)
        self._sizes = [end - start for end, start in zip(ends, [*ends[1:], 0], strict=True)]

    def recv(self, most: int) -> bytes:
        if not self.rest:
            return b""
        size = self._sizes.pop()
        if size > most:
            self._sizes.append(size - most)
        piece, self.rest = self.rest[: min(size, most)], self.rest[min(size, most) :]
        return piece


def read(answer: bytes, *, at_once: bool) -> Answer:
    """What is made of an answer that comes in one piece, or byte by byte."""
    return receive(Saying(answer, () if at_once else range(len(answer))))


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
        assert self.said <= 131_072, "it would not end, and no other greenlet would run"
        return piece


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK\r\n0\r\n", b"X-Trailer: y\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 10_000 + b"\r\ny\r\n"),
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"X: " + b"x" * 10_000 + b"\r\n"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        (b"HTTP/1.1 200 ", b"x" * 1_000),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1_000),
        (b"\r\n", b"\r\n"),
    ],
    ids=["100", "trailers", "chunks", "103", "headers", "a header", "a status line", "a body", "blank lines"],
)
def test_an_endless_answer_ends_and_its_connection_is_not_used_again(first: bytes, again: bytes) -> None:
    try:
        answer = receive(Endless(first or again, again))
    except NoAnswer as error:
        assert str(error) == "no status within 128 KB"  # noqa: PT017 - or it is an answer
        return
    assert (answer.status, answer.reusable) == (200, False)


@pytest.mark.parametrize(("room", "counts"), [(0, True), (1, False)])
def test_a_status_line_that_ends_within_128_kb_counts(room: int, counts: bool) -> None:  # noqa: FBT001 - a parameter
    line = b"HTTP/1.1 200 OK\r\n"
    answer = b"\n" * (131_072 - len(line) + room) + line + b"Content-Length: 2\r\n\r\nOK"
    if counts:
        assert read(answer, at_once=True) == Answer(200, b"", None, reusable=False)
    else:
        with pytest.raises(NoAnswer, match="no status within 128 KB"):
            read(answer, at_once=True)


@pytest.mark.parametrize("said", [b"", b"Connection: keep-alive\r\n", b"connection:Keep-Alive \r\n"])
def test_after_the_usual_answer_the_connection_is_used_again(said: bytes) -> None:
    assert read(b"HTTP/1.1 200 OK\r\n" + said + b"Content-Length: 2\r\n\r\nOK", at_once=True).reusable


@pytest.mark.parametrize("answer", [USUAL, *OTHERS.values()], ids=["usual", *OTHERS])
def test_an_answer_is_the_same_in_one_piece_and_byte_by_byte(answer: bytes) -> None:
    whole = read(answer, at_once=True)
    assert whole == read(answer, at_once=False)
    assert whole.reusable


@pytest.mark.parametrize("answer", CLOSING.values(), ids=CLOSING)
def test_after_an_answer_that_does_not_end_where_it_says_the_connection_is_not_used_again(answer: bytes) -> None:
    assert not read(answer, at_once=True).reusable


@pytest.mark.parametrize("at_once", [True, False], ids=["in one piece", "byte by byte"])
@pytest.mark.parametrize("answer", BROKEN_HEADS.values(), ids=BROKEN_HEADS)
def test_the_status_counts_whatever_follows_its_line(answer: bytes, at_once: bool) -> None:  # noqa: FBT001 - a parameter
    assert read(answer, at_once=at_once) == Answer(200, b"", None, reusable=False)


@pytest.mark.parametrize("at_once", [True, False], ids=["in one piece", "byte by byte"])
@pytest.mark.parametrize("answer", NOT_HTTP.values(), ids=NOT_HTTP)
def test_without_a_right_status_line_there_is_no_status(answer: bytes, at_once: bool) -> None:  # noqa: FBT001 - as above
    with pytest.raises(NoAnswer):
        read(answer, at_once=at_once)


@pytest.mark.parametrize(("answer", "why"), [(b"", "connection broken"), (b"SSH-2.0\r\n", "the answer is not HTTP")])
def test_why_there_is_no_status_is_told_without_a_word_of_what_came(answer: bytes, why: str) -> None:
    with pytest.raises(NoAnswer) as found:
        read(answer, at_once=True)
    assert str(found.value) == why


def test_the_usual_answer_and_what_is_told_of_the_others() -> None:
    assert read(USUAL, at_once=True) == Answer(200, b"OK", None, reusable=True)
    assert read(OTHERS["asked to wait"], at_once=True) == Answer(429, b"", "7", reusable=True)
    assert read(OTHERS["announced"], at_once=True).status == 200
    assert read(OTHERS["chunked"], at_once=True).body == b"OK"
    assert len(read(CLOSING["too long"], at_once=True).body) == BODY_BYTES
    assert read(CLOSING["cut short"], at_once=True) == Answer(200, b"Only this", None, reusable=False)
    assert read(CLOSING["uncounted"], at_once=True) == Answer(200, b"OK", None, reusable=False)
    assert read(CLOSING["both lengths"], at_once=True) == Answer(200, b"OK", None, reusable=False)
    assert read(CLOSING["one more behind it"], at_once=True) == Answer(200, b"OK", None, reusable=False)
    assert read(CLOSING["a longer body than it says"], at_once=True) == Answer(200, b"OK", None, reusable=False)
    assert read(CLOSING["switched, and what"], at_once=True) == Answer(101, b"", None, reusable=False)


@pytest.mark.parametrize("coding", [b"chunked", b"identity", b"gzip"])
def test_of_two_lengths_the_one_that_may_have_no_end_is_not_waited_for(coding: bytes) -> None:
    class Silent(Saying):
        def recv(self, most: int) -> bytes:
            assert self.rest, "it would wait for more"
            return super().recv(most)

    head = b"HTTP/1.1 503 No\r\nContent-Length: 4\r\nTransfer-Encoding: " + coding + b"\r\nRetry-After: 7\r\n\r\n"
    body = b"4\r\nBusy\r\n" if coding == b"chunked" else b"Busy"
    for cuts in ((), range(200)):
        assert receive(Silent(head + body, cuts)) == Answer(503, b"Busy", "7", reusable=False)


def test_headers_of_an_interim_answer_of_a_trailer_and_of_a_second_answer_are_not_those_of_the_answer() -> None:
    headers = b"Retry-After: 7\r\nLocation: /x\r\nKeep-Alive: timeout=9\r\n"
    interim = b"HTTP/1.1 103 Early Hints\r\n" + headers + b"\r\n"
    chunked = b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nNo\r\n0\r\n" + headers + b"\r\n"
    second = b"HTTP/1.1 200 OK\r\n" + headers + b"Content-Length: 3\r\n\r\nYes"
    assert read(interim + chunked + second, at_once=True) == Answer(503, b"No", None, reusable=False)
    assert read(interim + chunked, at_once=True) == Answer(503, b"No", None, reusable=True)


def test_a_header_that_comes_twice_is_read_as_a_list() -> None:
    answer = b"HTTP/1.1 307 Go\r\nLocation: /a \r\nRetry-After: 1\r\nretry-after:2\r\nContent-Length: 0\r\n\r\n"
    assert read(answer, at_once=True) == Answer(307, b"", "1, 2", reusable=True, location="/a")


ANY = st.sampled_from([USUAL, *OTHERS.values(), *CLOSING.values(), *BROKEN_HEADS.values(), *NOT_HTTP.values()])


@given(ANY, st.binary(max_size=20) | st.sampled_from([b"\r", b"\n", b"\r\n", b" ", b":", USUAL]), st.data())
def test_an_answer_is_the_same_wherever_it_is_cut(answer: bytes, noise: bytes, data: st.DataObject) -> None:
    at, without = data.draw(st.integers(0, len(answer))), data.draw(st.integers(0, 10))
    answer = answer[:at] + noise + answer[at + without :]
    cuts = data.draw(st.lists(st.integers(1, max(1, len(answer) - 1)), max_size=8))
    byte_by_byte = Saying(answer, range(len(answer)))
    found = made_of(byte_by_byte)
    in_pieces, whole = made_of(Saying(answer, cuts)), made_of(Saying(answer))
    if byte_by_byte.rest:  # more follows than the answer: it shows only where it comes with the end of the answer
        found, in_pieces, whole = (
            one if isinstance(one, str) else one._replace(reusable=False) for one in (found, in_pieces, whole)
        )
    assert found == in_pieces == whole


def made_of(saying: Saying) -> Answer | str:
    """The answer, or why there is none."""
    try:
        return receive(saying)
    except NoAnswer as error:
        return str(error)


def test_a_200_whose_head_is_still_coming_when_the_call_is_ended_counts() -> None:
    class Dripping(Saying):
        def recv(self, most: int) -> bytes:
            if not self.rest:
                raise Ended
            return super().recv(most)

    def dripping(answer: bytes) -> Dripping:
        return Dripping(answer, range(len(answer)))

    assert receive(dripping(b"HTTP/1.1 200 OK\r\nServer: x\r\n")) == Answer(200, b"", None, reusable=False)
    with pytest.raises(Ended):
        receive(dripping(b"HTTP/1.1 200 OK"))


@pytest.mark.parametrize("came", [b"", b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK\r\n", USUAL[:-1]])
def test_a_connection_that_breaks_has_given_a_status_or_raises(came: bytes) -> None:
    class Breaking(Saying):
        def recv(self, most: int) -> bytes:
            if not self.rest:
                raise ConnectionResetError
            return super().recv(most)

    if b"\r\n" in came:
        answer = receive(Breaking(came))
        assert (answer.status, answer.reusable) == (200, False)
    else:
        with pytest.raises(ConnectionResetError):
            receive(Breaking(came))


def test_reading_leaves_nothing_for_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        for answer in (USUAL, CLOSING["cut short"], BROKEN_HEADS["no colon"]):
            read(answer, at_once=True)
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.parametrize("more", [b"", b"Transfer-Encoding: identity\r\n"], ids=["usual", "both lengths"])
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
