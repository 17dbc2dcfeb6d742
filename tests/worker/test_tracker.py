"""The HTTP client against trackers of every kind: one POST, one Outcome, within its deadline."""

from __future__ import annotations

import _socket
import contextlib
import functools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

import gevent
import pytest
from waiting import PATIENCE_SECONDS, wait_until

from insend_relay.console.sandbox.sandbox import Sandbox
from insend_relay.outbox.record import Record, new_id
from insend_relay.worker.form import form
from insend_relay.worker.tracker import Tracker

BODY = form("app1/v/42", Record(new_id().bytes, 1, 1, 0, "", b'{"a":"b"}'))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"


@contextmanager
def answering(*answers: bytes, hold: bool = False, drip: float = 0, at_once: int = 0) -> Iterator[str]:
    """A raw server: reads a request, sends the next answer, closes; with ``hold`` it keeps the connection open.

    With ``drip`` the answer leaves byte by byte, but for its first ``at_once`` bytes.
    """
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    read_request(connection)
                    send(connection, answer)
                    if hold:
                        over.wait()

        def send(connection: socket.socket, answer: bytes) -> None:
            pieces = [answer[:at_once], *(answer[i : i + 1] for i in range(at_once, len(answer)))] if drip else [answer]
            for piece in pieces:
                try:
                    connection.sendall(piece)
                except OSError:
                    return
                if drip and over.wait(drip):
                    return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/watch/event"
        finally:
            over.set()
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def read_request(connection: socket.socket) -> bytes:
    """Head and body of one request; what there was of it when the client went away."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65_536)
        if not piece:
            return data
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(body) < length:
        piece = connection.recv(65_536)
        if not piece:
            break
        body += piece
    return head + b"\r\n\r\n" + body


@pytest.fixture
def tracker() -> Iterator[Callable[..., Tracker]]:
    made: list[Tracker] = []

    def make(url: str, timeout_seconds: float = 60) -> Tracker:
        made.append(Tracker(url, timeout_seconds=timeout_seconds, connections=4))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_200_is_delivered_and_the_form_is_as_the_contract_says(tracker: Callable[..., Tracker]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE_SECONDS)
        seen: list[bytes] = []

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                seen.append(read_request(connection))
                connection.sendall(OK)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        outcome = tracker(f"http://127.0.0.1:{server.getsockname()[1]}/watch/event").post(BODY)
        thread.join()
    head, _, body = seen[0].partition(b"\r\n\r\n")
    headers = head.lower()
    assert outcome.delivered
    assert head.startswith(b"POST /watch/event HTTP/1.1\r\n")
    assert b"content-type: application/x-www-form-urlencoded; charset=utf-8" in headers
    assert b"accept-encoding: identity" in headers
    assert b"cookie" not in headers
    assert parse_qs(body.decode(), strict_parsing=True) == {
        "app_key": ["app1"],
        "visitor_uid": ["42"],
        "data": ['{"a":"b"}'],
    }


def test_a_guest_and_an_event_with_both_uids_say_so_in_the_form() -> None:
    guest = form("app1/g/G.1", Record(b"", 1, 1, 0, "", b"{}"))
    both = form("app1/v/42", Record(b"", 1, 1, 0, "G.1", b"{}"))
    assert parse_qs(guest.decode()) == {"app_key": ["app1"], "guest_uid": ["G.1"], "data": ["{}"]}
    assert parse_qs(both.decode()) == {"app_key": ["app1"], "visitor_uid": ["42"], "guest_uid": ["G.1"], "data": ["{}"]}


def test_every_byte_of_a_payload_survives_the_form() -> None:
    text = "".join(map(chr, range(1, 0x300))) + "€ 😀 &=+%;"
    body = form("app1/v/42", Record(b"", 1, 1, 0, "", text.encode()))
    assert parse_qs(body.decode("ascii"), keep_blank_values=True)["data"] == [text]


def test_connections_are_kept_and_used_again(tracker: Callable[..., Tracker]) -> None:
    with Sandbox() as sandbox:
        client = tracker(sandbox.url)
        assert [client.post(BODY).status for _ in range(5)] == [400] * 5  # the sandbox wants a type
        assert len({request.connection for request in sandbox.requests}) == 1


def test_a_connection_that_the_tracker_closed_meanwhile_is_not_used_for_sending(
    tracker: Callable[..., Tracker],
) -> None:
    closed = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE_SECONDS)

        def serve() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    read_request(connection)
                    connection.sendall(OK)
                    connection.shutdown(socket.SHUT_WR)
                    wait_until(functools.partial(arrived, connection))
                    closed.set()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        client = tracker(f"http://127.0.0.1:{server.getsockname()[1]}/watch/event")
        assert client.post(BODY).delivered
        assert closed.wait(PATIENCE_SECONDS)
        assert client.post(BODY).delivered
        thread.join()


def arrived(connection: socket.socket) -> bool:
    """Whether the other side's kernel has said that it has the end of this half-closed connection."""
    fin_wait_2, close = 5, 7
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in {fin_wait_2, close}


def test_nobody_listening_is_refused(tracker: Callable[..., Tracker]) -> None:
    with socket.socket() as held:  # bound and not listening: nobody else gets the port meanwhile
        held.bind(("127.0.0.1", 0))
        outcome = tracker(f"http://127.0.0.1:{held.getsockname()[1]}/").post(BODY)
    assert (outcome.kind, outcome.reason, outcome.doubtful) == ("refused", "connection refused", False)


def test_a_host_that_does_not_exist_is_refused(tracker: Callable[..., Tracker]) -> None:
    outcome = tracker("http://tracker.invalid/").post(BODY)
    assert (outcome.kind, outcome.failure) == ("refused", "unreachable")


@pytest.mark.parametrize("found", [True, False], ids=["comes back late", "fails late"])
def test_a_call_that_comes_back_too_late_from_a_look_up_that_hung_is_not_sent(
    tracker: Callable[..., Tracker],
    monkeypatch: pytest.MonkeyPatch,
    found: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    look_up, asked, answer = _socket.getaddrinfo, threading.Event(), threading.Event()

    def hangs(host: str, *rest: Any, **more: Any) -> Any:
        if host not in {"tracker.example.net", b"tracker.example.net"}:
            return look_up(host, *rest, **more)
        asked.set()
        answer.wait()
        if not found:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return look_up("127.0.0.1", *rest, **more)

    monkeypatch.setattr(_socket, "getaddrinfo", hangs)
    with Sandbox() as sandbox:
        client = tracker(sandbox.url.replace("127.0.0.1", "tracker.example.net"), 0.3)
        outcomes = []
        thread = threading.Thread(target=lambda: outcomes.append(client.post(BODY)))
        thread.start()
        asked.wait()
        over = time.monotonic() + 0.3
        wait_until(lambda: time.monotonic() > over)
        answer.set()
        thread.join()
        assert sandbox.requests == []
    assert (outcomes[0].kind, outcomes[0].failure, outcomes[0].doubtful) == ("refused", "unreachable", False)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 2",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 " + b"2" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 99999 Strange\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
    ],
)
def test_no_whole_answer_is_unknown(tracker: Callable[..., Tracker], answer: bytes) -> None:
    with answering(answer) as url:
        outcome = tracker(url).post(BODY)
    assert (outcome.kind, outcome.failure, outcome.doubtful) == ("unknown", "unreachable", True)


def test_a_200_whose_head_breaks_off_behind_the_status_line_is_delivered(tracker: Callable[..., Tracker]) -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Le") as url:
        assert tracker(url).post(BODY).delivered


def test_a_200_whose_body_fails_is_delivered(tracker: Callable[..., Tracker]) -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nOnly this") as url:
        assert tracker(url).post(BODY).delivered


def test_a_redirect_is_not_followed(tracker: Callable[..., Tracker]) -> None:
    with Sandbox() as elsewhere:
        location = f"HTTP/1.1 307 Moved\r\nLocation: {elsewhere.url}\r\nContent-Length: 0\r\n\r\n"
        with answering(location.encode()) as url:
            assert tracker(url).post(BODY).status == 307
        assert elsewhere.requests == []


def test_a_silent_tracker_is_unknown_at_the_deadline(tracker: Callable[..., Tracker]) -> None:
    with answering(b"", hold=True) as url:
        outcome = tracker(url, 2).post(BODY)
    assert (outcome.kind, outcome.status) == ("unknown", None)


def test_the_deadline_counts_from_the_call_however_long_the_thread_was_busy_before(
    tracker: Callable[..., Tracker],
) -> None:
    with answering(OK, OK) as url:
        client = tracker(url, 4)
        client.post(BODY)
        busy_until = time.monotonic() + 4.2
        while time.monotonic() < busy_until:  # the loop does not get to look at the clock
            pass
        assert client.post(BODY).delivered


def test_a_dripped_head_does_not_outlive_the_deadline(tracker: Callable[..., Tracker]) -> None:
    with answering(OK, drip=0.5) as url:  # 40 bytes: twenty seconds in all, never two without a byte
        outcome = tracker(url, 2).post(BODY)
    assert (outcome.kind, outcome.status, outcome.answer) == ("unknown", None, "no whole answer within 2 s")


def test_a_dripped_body_of_an_answer_that_closes_does_not_outlive_the_deadline(tracker: Callable[..., Tracker]) -> None:
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    with answering(head + b"x" * 3000, drip=0.05, at_once=len(head)) as url:
        client = tracker(url, 5)
        started = threading.Event()
        outcomes = []

        def post() -> None:
            started.set()
            outcomes.append(client.post(BODY))

        thread = threading.Thread(target=post)
        thread.start()
        started.wait()
        thread.join(60)  # the body alone would take two and a half minutes
        alive = thread.is_alive()
    assert not alive
    assert outcomes[0].delivered


def test_a_connection_that_nobody_answers_is_refused_at_the_deadline_and_a_cut_ends_it(
    tracker: Callable[..., Tracker],
) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with contextlib.ExitStack() as waiting:  # the backlog is full: further connections get no answer
            for _ in range(2):
                queued = waiting.enter_context(socket.socket())
                queued.setblocking(False)
                queued.connect_ex(("127.0.0.1", port))
            late = tracker(f"http://127.0.0.1:{port}/", 0.5).post(BODY)
            client = tracker(f"http://127.0.0.1:{port}/", 120)
            call = gevent.spawn(client.post, BODY)
            while not call.ready():
                client.cut()
                gevent.sleep(0.01)
    assert (late.kind, late.reason, late.doubtful) == ("refused", "connecting took too long", False)
    assert (call.value.kind, call.value.was_cut) == ("refused", True)


def test_an_endless_body_ends_with_its_beginning(tracker: Callable[..., Tracker]) -> None:
    with answering(b"HTTP/1.1 400 Bad\r\n\r\n" + b"x" * 1_000_000) as url:
        outcome = tracker(url).post(BODY)
    assert (outcome.status, outcome.answer) == (400, "x" * 500)


def test_a_cut_ends_a_call_under_way_and_its_outcome_is_unknown(tracker: Callable[..., Tracker]) -> None:
    with Sandbox() as sandbox:
        sandbox.misbehave(delay=60)
        client = tracker(sandbox.url, 120)
        call = gevent.spawn(client.post, BODY)
        while not sandbox.requests:
            gevent.sleep(0.01)
        client.cut()
        outcome = call.get(timeout=PATIENCE_SECONDS)
    assert (outcome.kind, outcome.was_cut) == ("unknown", True)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (b"Mon, 01 Jan 2024 00:00:00 +9999999999999", None),
        (b"7", 7),
        (b" 7 ", 7),
        (b"soon", None),
        (b"-3", None),
        (b"Thu, 01 Jan 1970 00:00:00 GMT", 0),
        (b"9" * 40, 999_999_999),
    ],
)
def test_retry_after_is_read_in_either_form(
    tracker: Callable[..., Tracker], header: bytes, seconds: float | None
) -> None:
    with answering(b"HTTP/1.1 503 No\r\nRetry-After: " + header + b"\r\nContent-Length: 0\r\n\r\n") as url:
        assert tracker(url).post(BODY).retry_after_seconds == seconds


def test_retry_after_as_a_date_counts_from_now(tracker: Callable[..., Tracker]) -> None:
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 600)).encode()
    with answering(b"HTTP/1.1 429 No\r\nRetry-After: " + date + b"\r\nContent-Length: 0\r\n\r\n") as url:
        asked = tracker(url).post(BODY).retry_after_seconds
    assert asked is not None
    assert 540 < asked <= 600
