"""The sandbox over real HTTP: what it records, what it shows, and every way to misbehave."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Self
from urllib.parse import urlencode

import pytest
from waiting import PATIENCE_SECONDS, wait_until

from insend_relay.console.sandbox.sandbox import CannotListen, Received, Sandbox
from insend_relay.console.sandbox.server import Answer

FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


def form(uid: str = "42", key: str = "signed_up", kind: str = "custom", **more: str) -> bytes:
    """A custom event's form (or, of another kind, a wrong one)."""
    data = {
        "app_key": "key1",
        "visitor_uid": uid,
        "type": kind,
        "domain": "shop.example.com",
        "host": "shop.example.com",
        "properties": {"key": key},
    }
    return urlencode({"app_key": "key1", "visitor_uid": uid, "data": json.dumps(data), **more}).encode()


class Client:
    """One connection that is kept alive."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.http = http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=PATIENCE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def ask(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, http.client.HTTPMessage, str]:
        self.http.request(method, path, body, {**FORM, **headers})
        answer = self.http.getresponse()
        return answer.status, answer.headers, answer.read().decode()

    def post(self, body: bytes) -> int:
        return self.ask("POST", "/watch/event", body)[0]

    def tell(self, path: str, options: dict[str, Any]) -> tuple[int, str]:
        status, _, text = self.ask("POST", path, json.dumps(options).encode())
        return status, text

    def get_json(self, path: str) -> Any:
        status, headers, text = self.ask("GET", path)
        assert (status, headers["Content-Type"]) == (200, "application/json")
        return json.loads(text)


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[Client]:
    with Client(sandbox) as client:
        yield client


def test_a_right_event_gets_200_and_stands_in_the_record(sandbox: Sandbox, client: Client) -> None:
    before = time.time()
    assert client.post(form("42", "signed_up")) == 200
    (event,) = sandbox.received
    assert (event.visitor_uid, event.guest_uid, event.type, event.status) == ("42", "", "custom", 200)
    assert event.properties == {"key": "signed_up"}
    assert event.data["domain"] == "shop.example.com"
    assert json.loads(event.fields["data"]) == event.data
    assert before <= event.arrived_at <= time.time()
    assert sandbox.url == f"http://127.0.0.1:{sandbox.port}/watch/event"


def test_a_wrong_event_gets_400_with_the_reasons_and_is_not_among_the_received(
    sandbox: Sandbox, client: Client
) -> None:
    status, headers, text = client.ask("POST", "/watch/event", form("Ann", "not a key"))
    assert (status, headers["Content-Type"]) == (400, "text/plain; charset=utf-8")
    assert text.splitlines() == [
        "visitor_uid: only 0-9, a-z and - are allowed",
        "data.properties.key: must be letters, digits and _ only",
    ]
    assert sandbox.received == []
    assert [request.faults for request in sandbox.requests] == [tuple(text.splitlines())]


def test_requests_are_numbered_and_know_their_connection(sandbox: Sandbox, client: Client) -> None:
    with Client(sandbox) as second:
        for one in (client, client, second, client):
            one.post(form())
    assert [(request.ordinal, request.connection) for request in sandbox.requests] == [(1, 1), (2, 1), (3, 2), (4, 1)]


def test_the_record_is_bounded_and_the_totals_go_on() -> None:
    with Sandbox(keep=2) as sandbox, Client(sandbox) as client:
        for key in ("a", "b", "not a key", "c"):
            client.post(form(key=key))
        assert [request.properties["key"] for request in sandbox.requests] == ["not a key", "c"]
        assert [request.properties["key"] for request in sandbox.received] == ["b", "c"]
        assert sandbox.totals == {"requests": 4, "200": 3, "400": 1}
        sandbox.clear()
        assert (sandbox.requests, sandbox.received, sandbox.totals) == ([], [], {"requests": 0})


def test_each_event_is_told_to_the_callback_with_its_verdict() -> None:
    told: list[Received] = []
    with Sandbox(on_event=told.append) as sandbox, Client(sandbox) as client:
        client.post(form())
        client.post(form(kind="nothing we know"))
    assert [(event.type, event.status) for event in told] == [("custom", 200), ("", 400)]


def test_the_listings_show_all_and_only_the_accepted(sandbox: Sandbox, client: Client) -> None:
    client.post(form("7", "naïve"))
    client.post(form("8"))
    sandbox.misbehave(status=503, times=9)
    everything, accepted = client.get_json("/requests"), client.get_json("/received")
    assert everything["totals"] == {"requests": 2, "200": 1, "400": 1}
    assert everything["misbehaving"] == [{"status": 503, "times": 9, "done": 0}]
    assert [request["visitor_uid"] for request in everything["requests"]] == ["7", "8"]
    assert [request["visitor_uid"] for request in accepted["requests"]] == ["8"]
    assert everything["requests"][0]["data"]["properties"] == {"key": "naïve"}


def test_the_page_shows_the_newest_first_and_escapes_what_came(sandbox: Sandbox, client: Client) -> None:
    client.post(form("1"))
    client.post(form("2", "<script>alert(1)</script>"))
    client.post(form("<b>", extra="&"))
    sandbox.misbehave(close=True, type="purchase")
    status, headers, text = client.ask("GET", "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "<script>alert" not in text
    assert "&lt;script&gt;" in text
    assert "<b>" not in text
    assert text.index("<td>3</td>") < text.index("<td>2</td>") < text.index("<td>1</td>")
    assert '"close": true, "type": "purchase"' in text.replace("&quot;", '"')
    assert 'http-equiv="refresh"' in text


def test_an_empty_page_says_so(client: Client) -> None:
    assert "Nothing has come yet" in client.ask("GET", "/")[2]


def test_other_addresses_and_methods_are_refused_with_what_is_wanted(sandbox: Sandbox, client: Client) -> None:
    assert client.ask("POST", "/watch/events", form())[0] == 404
    status, headers, text = client.ask("GET", "/watch/event")
    assert (status, headers["Allow"], text) == (405, "POST", "/watch/event wants POST\n")
    assert client.ask("POST", "/received")[0] == 405
    assert sandbox.requests == []


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Transfer-Encoding: chunked", 411),
        ("Content-Length: -1", 400),
        ("Content-Length: ten", 400),
        ("Content-Length: 99999999", 413),
    ],
)
def test_a_body_of_no_length_or_too_great_a_length_ends_the_connection(
    sandbox: Sandbox, header: str, status: int
) -> None:
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=PATIENCE_SECONDS) as wire:
        wire.sendall(f"POST /watch/event HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode())
        assert read_to_the_end(wire).startswith(f"HTTP/1.1 {status} ".encode())
    assert sandbox.requests == []


def test_a_client_that_leaves_in_the_middle_is_not_recorded(sandbox: Sandbox) -> None:
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=PATIENCE_SECONDS) as wire:
        wire.sendall(b"POST /watch/event HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        wire.shutdown(socket.SHUT_WR)
        assert read_to_the_end(wire) == b""
    assert sandbox.requests == []


def read_to_the_end(wire: socket.socket) -> bytes:
    return b"".join(iter(lambda: wire.recv(4096), b""))


def raw(body: bytes, *headers: str) -> bytes:
    """A POST of a form, as its bytes are sent."""
    lines = ["POST /watch/event HTTP/1.1", "Host: x", f"Content-Type: {FORM['Content-Type']}", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def exchanged(sandbox: Sandbox, *pieces: bytes) -> bytes:
    """All that comes back for some pieces of requests, of which the last ends the connection."""
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=PATIENCE_SECONDS) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            wire.sendall(piece)
        return read_to_the_end(wire)


@pytest.mark.parametrize(
    ("came", "status"),
    [
        (b"what is this\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"GET /" + b"x" * 140_000, 431),
    ],
    ids=["no HTTP", "nearly HTTP", "HEAD", "CONNECT", "a long head"],
)
def test_what_it_cannot_read_is_refused_and_the_connection_ends(sandbox: Sandbox, came: bytes, status: int) -> None:
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=PATIENCE_SECONDS) as wire:
        wire.sendall(came)
        assert wire.recv(4096).startswith(f"HTTP/1.1 {status} ".encode())
    assert sandbox.requests == []


def test_a_request_may_come_byte_by_byte_and_several_at_once(sandbox: Sandbox) -> None:
    one, last = raw(form(key="one")), raw(form(key="last"), "Connection: close")
    found = exchanged(sandbox, *(one[i : i + 1] for i in range(len(one))), one + last)
    assert found.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert [event.properties["key"] for event in sandbox.received] == ["one", "one", "last"]


def test_an_offer_of_http_2_is_declined_and_the_request_is_taken(sandbox: Sandbox) -> None:
    offer = ["Connection: Upgrade, HTTP2-Settings, close", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAA"]
    assert exchanged(sandbox, raw(form(), *offer)).startswith(b"HTTP/1.1 200 OK\r\n")
    assert [event.properties["key"] for event in sandbox.received] == ["signed_up"]


def test_a_client_that_wants_a_word_before_it_sends_its_body_gets_it(sandbox: Sandbox) -> None:
    body = form()
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=PATIENCE_SECONDS) as wire:
        wire.sendall(raw(body, "Connection: close", "Expect: 100-continue").removesuffix(body))
        assert wire.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.sendall(body)
        assert read_to_the_end(wire).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_client_that_sends_no_more_gets_the_whole_of_a_long_answer(sandbox: Sandbox, client: Client) -> None:
    for number in range(100):
        client.post(form(key=f"{number}_" + "x" * 60_000))
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=PATIENCE_SECONDS) as wire:
        wire.sendall(b"GET /requests HTTP/1.1\r\nHost: x\r\n\r\n")
        wire.shutdown(socket.SHUT_WR)
        head, _, body = read_to_the_end(wire).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}\r\n".encode() in head + b"\r\n"
    assert len(json.loads(body)["requests"]) == 100


def test_a_client_that_sends_no_more_gets_what_the_kernel_has_not_taken_yet(sandbox: Sandbox, client: Client) -> None:
    """With small buffers most of an answer still waits in the server when it has nothing more to read or to write."""
    sandbox._door._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    client.post(form(key="x" * 15_000))
    with socket.socket() as wire:
        wire.settimeout(PATIENCE_SECONDS)
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.connect(("127.0.0.1", sandbox.port))
        wire.sendall(b"GET /requests HTTP/1.1\r\nHost: x\r\n\r\n")
        wire.shutdown(socket.SHUT_WR)
        _, _, body = read_to_the_end(wire).partition(b"\r\n\r\n")
    assert len(json.loads(body)["requests"]) == 1


def test_a_status_can_be_told_with_retry_after_and_for_a_count(sandbox: Sandbox, client: Client) -> None:
    sandbox.misbehave(status=503, retry_after=7, times=2)
    status, headers, _ = client.ask("POST", "/watch/event", form())
    assert (status, headers["Retry-After"]) == (503, "7")
    assert [client.post(form()), client.post(form())] == [503, 200]
    assert [request.status for request in sandbox.requests] == [503, 503, 200]
    assert len(sandbox.received) == 1


@pytest.mark.parametrize("status", [204, 304, 499])
def test_odd_statuses_leave_the_connection_usable(sandbox: Sandbox, client: Client, status: int) -> None:
    sandbox.misbehave(status=status, times=1)
    assert [client.post(form()), client.post(form())] == [status, 200]
    assert {request.connection for request in sandbox.requests} == {1}


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_that_has_no_body_ends_with_its_head(status: int) -> None:
    assert Answer(status=status, body=b"text").rendered(last=False).endswith(b"\r\n\r\n")


def test_a_misbehaviour_may_concern_one_visitor_or_one_type_and_the_latest_word_counts(
    sandbox: Sandbox, client: Client
) -> None:
    sandbox.misbehave(status=500)
    sandbox.misbehave(status=401, type="custom")
    sandbox.misbehave(status=404, visitor_uid="7")
    assert [client.post(form("7")), client.post(form("8")), client.post(form(kind="?"))] == [404, 401, 500]
    sandbox.behave()
    assert [client.post(form("7")), client.post(form("8")), client.post(form(kind="?"))] == [200, 200, 400]


def test_a_guest_can_be_singled_out_by_its_uid(sandbox: Sandbox, client: Client) -> None:
    sandbox.misbehave(status=500, visitor_uid="g1")
    assert client.post(form(guest_uid="g1")) == 500
    assert client.post(form()) == 200


def test_a_delayed_answer_is_on_record_before_it_is_sent_and_stopping_does_not_wait_for_it() -> None:
    with Sandbox() as sandbox, Client(sandbox) as client:
        sandbox.misbehave(delay=3600)
        client.http.request("POST", "/watch/event", form(), FORM)
        wait_until(lambda: sandbox.received)
        client.http.sock.settimeout(0)
        with pytest.raises(BlockingIOError):
            client.http.sock.recv(1)
        client.http.sock.settimeout(PATIENCE_SECONDS)
        sandbox.__exit__(None, None, None)
        assert client.http.sock.recv(1) == b""


def test_a_short_delay_ends_in_the_answer(sandbox: Sandbox, client: Client) -> None:
    sandbox.misbehave(delay=0.02, times=1)
    began = time.monotonic()
    assert client.post(form()) == 200
    assert time.monotonic() - began >= 0.02


def test_close_hangs_up_after_the_request_without_an_answer(sandbox: Sandbox, client: Client) -> None:
    sandbox.misbehave(close=True, times=1)
    with pytest.raises(http.client.RemoteDisconnected):
        client.post(form())
    assert [request.status for request in sandbox.requests] == [None]
    assert sandbox.received == []
    assert sandbox.totals == {"requests": 1, "closed": 1}


def test_drip_sends_the_answer_byte_by_byte(sandbox: Sandbox) -> None:
    sandbox.misbehave(drip=0.02)
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=PATIENCE_SECONDS) as wire:
        body = form()
        head = f"POST /watch/event HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
        wire.sendall(head.encode() + b"Content-Type: application/x-www-form-urlencoded\r\n\r\n" + body)
        pieces = list(iter(lambda: wire.recv(4096), b""))
    assert b"".join(pieces).startswith(b"HTTP/1.1 200 OK\r\n")
    assert len(pieces) > 1


def test_stopping_cuts_an_answer_that_drips() -> None:
    with Sandbox() as sandbox, Client(sandbox) as client:
        sandbox.misbehave(drip=3600)
        client.http.request("POST", "/watch/event", form(), FORM)
        assert client.http.sock.recv(100) == b"H"
        sandbox.__exit__(None, None, None)
        assert client.http.sock.recv(100) == b""


def is_refused(sandbox: Sandbox) -> bool:
    try:
        socket.create_connection(("127.0.0.1", sandbox.port), timeout=PATIENCE_SECONDS).close()
    except ConnectionRefusedError:
        return True
    return False


def test_refuse_cuts_open_connections_and_takes_none_until_told_to_behave(sandbox: Sandbox, client: Client) -> None:
    client.post(form())
    sandbox.misbehave(refuse_for=float("inf"))
    assert is_refused(sandbox)
    assert client.http.sock.recv(1) == b""
    sandbox.misbehave(refuse_for=3600)
    assert is_refused(sandbox)
    sandbox.behave()
    assert not is_refused(sandbox)
    client.http.close()
    assert client.post(form()) == 200
    assert [request.connection for request in sandbox.requests] == [1, 3]


def test_refuse_ends_by_itself(sandbox: Sandbox) -> None:
    sandbox.misbehave(refuse_for=0.05)
    wait_until(lambda: not is_refused(sandbox))


def test_while_it_refuses_nobody_else_gets_its_port_to_listen_on(sandbox: Sandbox) -> None:
    sandbox.misbehave(refuse_for=3600)
    with closing(socket.socket()) as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", sandbox.port))


def test_a_port_that_somebody_else_listens_on_meanwhile_is_waited_for(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("insend_relay.console.sandbox.door._PATIENCE_SECONDS", 0.1)
    sandbox.misbehave(refuse_for=3600)
    with closing(socket.socket()) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", sandbox.port))
        other.listen()
        with pytest.raises(CannotListen, match="in use"):
            sandbox.behave()
    wait_until(lambda: not is_refused(sandbox))
    sandbox.behave()


def test_a_sandbox_that_refuses_can_be_left() -> None:
    with Sandbox() as sandbox:
        sandbox.misbehave(refuse_for=float("inf"))
    assert is_refused(sandbox)


def test_it_can_be_told_over_http(sandbox: Sandbox, client: Client) -> None:
    assert client.tell("/misbehave", {"status": 500, "type": "custom", "times": 1}) == (200, "OK\n")
    assert [client.post(form()), client.post(form())] == [500, 200]
    client.tell("/misbehave", {"status": 502})
    assert client.post(form()) == 502
    assert client.ask("POST", "/behave")[0] == 200
    assert client.post(form()) == 200
    assert client.ask("POST", "/clear")[0] == 200
    assert sandbox.requests == []


def test_told_by_its_callback_to_refuse_it_still_answers_that_request() -> None:
    with Sandbox(on_event=lambda _: shy.misbehave(refuse_for=3600)) as shy:
        with Client(shy) as client:
            status, headers, _ = client.ask("POST", "/watch/event", form())
        assert (status, headers["Connection"]) == (200, "close")
        assert is_refused(shy)


def test_a_callback_that_fails_is_shown_and_ends_its_connection_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", shown.append)

    def fail(event: Received) -> None:
        if event.visitor_uid == "7":
            raise ZeroDivisionError

    with Sandbox(on_event=fail) as sandbox, Client(sandbox) as client:
        with Client(sandbox) as other, pytest.raises(http.client.RemoteDisconnected):
            other.post(form("7"))
        assert client.post(form()) == 200
    assert [each.exc_type for each in shown] == [ZeroDivisionError]


def test_what_it_is_told_after_it_was_left_does_nothing() -> None:
    with Sandbox() as sandbox:
        pass
    sandbox.misbehave(refuse_for=0)
    sandbox.behave()
    sandbox.__exit__(None, None, None)
    assert is_refused(sandbox)


def test_told_over_http_to_refuse_it_still_answers_that_request(sandbox: Sandbox, client: Client) -> None:
    status, headers, text = client.ask("POST", "/misbehave", b'{"refuse_for": 3600}')
    assert (status, headers["Connection"], text) == (200, "close", "OK\n")
    assert is_refused(sandbox)
    sandbox.behave()
    assert not is_refused(sandbox)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff", "codec can't decode"),
        (b"[]", "must be a JSON object"),
        (b'{"refuse_for": Infinity}', "NaN and Infinity"),
        (b'{"statsu": 500}', "statsu: no such option; there are status, "),
        (b"{}", "say how to misbehave"),
    ],
)
def test_what_it_cannot_be_told_over_http_is_answered_with_the_reason(client: Client, body: bytes, reason: str) -> None:
    status, _, text = client.ask("POST", "/misbehave", body)
    assert status == 400
    assert reason in text


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "say how to misbehave"),
        ({"type": "custom"}, "say how to misbehave"),
        ({"status": 100}, "status: must be a status from 200 to 599"),
        ({"status": True}, "status: must be a status from 200 to 599"),
        ({"delay": -1}, "delay: must be seconds"),
        ({"drip": float("inf")}, "drip: must be seconds"),
        ({"status": 500, "times": 0}, "times: must be a count of at least 1"),
        ({"status": 500, "type": "purchased"}, "type: must be one of add_to_cart, "),
        ({"status": 500, "visitor_uid": ""}, "visitor_uid: must be a uid"),
        ({"close": 1}, "close: must be true or false"),
        ({"status": 503, "retry_after": "1\r\nX: y"}, "retry_after: must be seconds or an HTTP date"),
        ({"delay": 1, "retry_after": 1}, "retry_after: give the status that it goes with"),
        ({"close": True, "status": 500}, "close: a closed connection carries no answer"),
        ({"close": True, "drip": 1}, "close: a closed connection carries no answer"),
        ({"refuse_for": 1, "status": 500, "times": 1}, "refuse_for: goes alone, not with status, times"),
        ({"refuse_for": float("nan")}, "refuse_for: must be seconds"),
    ],
)
def test_options_that_make_no_sense_are_refused(sandbox: Sandbox, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        sandbox.misbehave(**options)
    assert sandbox._tracker.misbehaving() == []


def test_many_connections_at_once_lose_and_double_nothing(sandbox: Sandbox) -> None:
    def post(uid: int) -> None:
        with Client(sandbox) as client:
            for number in range(20):
                client.post(form(str(uid), f"n{number}"))

    threads = [threading.Thread(target=post, args=(uid,)) for uid in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for uid in range(16):
        keys = [event.properties["key"] for event in sandbox.received if event.visitor_uid == str(uid)]
        assert keys == [f"n{number}" for number in range(20)]
    assert [event.ordinal for event in sandbox.received] == list(range(1, 321))


def test_leaving_it_leaves_no_thread_and_no_listening_port(capfd: pytest.CaptureFixture[str]) -> None:
    before = set(threading.enumerate())
    with Sandbox() as sandbox, Client(sandbox) as idle, Client(sandbox) as busy:
        idle.http.connect()
        busy.post(form())
        sandbox.__exit__(None, None, None)
        assert set(threading.enumerate()) <= before
        assert is_refused(sandbox)
    assert capfd.readouterr() == ("", "")


def test_a_port_in_use_is_reported_with_what_to_do(sandbox: Sandbox) -> None:
    with pytest.raises(CannotListen, match=f"port {sandbox.port}.*in use.*choose another port"), Sandbox(sandbox.port):
        pass


@pytest.mark.parametrize("host", ["203.0.113.1", "h" * 64])
def test_a_host_that_is_not_this_machine_s_is_not_taken_for_a_matter_of_the_port(host: str) -> None:
    with (
        pytest.raises(CannotListen, match=r"Give an address of this machine, such as 127\.0\.0\.1\.\Z"),
        Sandbox(host=host),
    ):
        pass


@pytest.mark.parametrize(("host", "port"), [("203.0.113.1", 0), ("127.0.0.1", 70_000)])
def test_an_address_that_cannot_be_had_is_reported_too(host: str, port: int) -> None:
    with pytest.raises(CannotListen, match="cannot listen on"), Sandbox(port, host=host):
        pass


def test_it_listens_on_ipv6_where_there_is_one() -> None:
    try:
        with (
            Sandbox(host="::1") as sandbox,
            closing(socket.create_connection(("::1", sandbox.port), timeout=PATIENCE_SECONDS)),
        ):
            assert sandbox.url == f"http://[::1]:{sandbox.port}/watch/event"
    except CannotListen:
        pytest.skip("this machine has no IPv6 loopback")
