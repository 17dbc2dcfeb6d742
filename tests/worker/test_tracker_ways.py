"""The ways to a tracker: by TLS, and through the HTTP proxies that the environment names."""

from __future__ import annotations

import base64
import contextlib
import socketserver
import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import trustme
from answering import certified, running

from insend_relay.outbox.record import Record, new_id
from insend_relay.worker.form import form
from insend_relay.worker.tracker import Tracker

BODY = form("app1/v/42", Record(new_id().bytes, 1, 1, 0, "", b'{"a":"b"}'))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"


class Serving(socketserver.ThreadingTCPServer):
    """A tracker, or a proxy before one.

    Args:
        context: For a server that speaks TLS.
        inner: For what is asked for by CONNECT: whatever host it is, we are it.

    Attributes:
        heads: The head of each request that came, a tunnel's CONNECT among them.
        connections: How many were opened.
    """

    def __init__(self, context: ssl.SSLContext | None, inner: ssl.SSLContext | None) -> None:
        self.heads: list[str] = []
        self.connections = 0
        self._context, self._inner = context, inner
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)

    def finish_request(self, request: Any, _: Any) -> None:
        """Serve one connection, until it ends."""
        self.connections += 1
        with contextlib.suppress(OSError):
            if self._context is not None:
                request = self._context.wrap_socket(request, server_side=True)
            with request:
                while head := self._head(request):
                    self.heads.append(head)
                    if head.startswith("CONNECT") and self._inner is not None:
                        request.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                        with self._inner.wrap_socket(request, server_side=True) as secret:
                            while head := self._head(secret):
                                self.heads.append(head)
                                secret.sendall(OK)
                        return
                    request.sendall(OK)

    @staticmethod
    def _head(connection: Any) -> str:
        """The next request's; it is read to its end."""
        came = b""
        while b"\r\n\r\n" not in came:
            if not (piece := connection.recv(1)):
                return ""
            came += piece
        head = came.decode()
        if "content-length:" in head.lower():
            rest = int(head.lower().split("content-length:")[1].split()[0])
            while rest:
                rest -= len(connection.recv(rest))
        return head


def serving(
    context: ssl.SSLContext | None, inner: ssl.SSLContext | None = None
) -> AbstractContextManager[tuple[Serving, int]]:
    """A server, and its port."""
    return running(Serving(context, inner))


@contextmanager
def tracker(url: str) -> Iterator[Tracker]:
    """A client."""
    client = Tracker(url, timeout_seconds=60, connections=4)
    try:
        yield client
    finally:
        client.close()


def posted(url: str, times: int = 2) -> list[Any]:
    """What becomes of some POSTs, one after the other."""
    with tracker(url) as client:
        return [client.post(BODY) for _ in range(times)]


def test_a_tracker_behind_tls_is_reached_on_one_connection(authority: trustme.CA) -> None:
    with serving(certified(authority, "127.0.0.1")) as (server, port):
        assert [outcome.status for outcome in posted(f"https://127.0.0.1:{port}/watch/event")] == [200, 200]
    assert server.connections == 1
    assert server.heads[0].startswith(f"POST /watch/event HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n")


@pytest.mark.parametrize(
    ("why", "words"),
    [
        ("another authority's", "unable to get local issuer certificate"),
        ("of another name", "IP address mismatch, certificate is not valid for '127.0.0.1'"),
    ],
)
def test_a_bad_certificate_is_refused_before_anything_is_sent(
    authority: trustme.CA,
    why: str,
    words: str,
) -> None:
    issuer, name = (trustme.CA(), "127.0.0.1") if why == "another authority's" else (authority, "shop.example.com")
    with serving(certified(issuer, name)) as (server, port):
        outcome = posted(f"https://127.0.0.1:{port}/watch/event", 1)[0]
    assert (outcome.kind, outcome.reason, outcome.doubtful) == ("refused", "TLS failed: " + words, False)
    assert server.heads == []


def test_without_a_bundle_a_private_certificate_is_not_trusted() -> None:
    with serving(certified(trustme.CA(), "127.0.0.1")) as (_, port):
        assert posted(f"https://127.0.0.1:{port}/watch/event", 1)[0].reason.startswith("TLS failed: ")


def test_a_proxy_forwards_what_is_not_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(None) as (proxy, port):
        monkeypatch.setenv("HTTP_PROXY", f"http://user:secret@127.0.0.1:{port}")
        outcomes = posted("http://tracker.example.net/watch/event")
    assert [outcome.status for outcome in outcomes] == [200, 200]
    assert proxy.connections == 1
    said = base64.b64encode(b"user:secret").decode()
    for head in proxy.heads:
        assert head.startswith("POST http://tracker.example.net/watch/event HTTP/1.1\r\nHost: tracker.example.net\r\n")
        assert f"Proxy-Authorization: Basic {said}\r\n" in head


def test_a_proxy_tunnels_what_is_secret_and_the_tunnel_is_used_again(
    authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(None, certified(authority, "tracker.example.net")) as (proxy, port):
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:secret@127.0.0.1:{port}")
        outcomes = posted("https://tracker.example.net/watch/event")
    assert [outcome.status for outcome in outcomes] == [200, 200]
    connect, *posts = proxy.heads
    assert connect.startswith("CONNECT tracker.example.net:443 HTTP/1.")
    assert "Proxy-Authorization" in connect
    assert len(posts) == 2
    for head in posts:
        assert head.startswith("POST /watch/event HTTP/1.1\r\nHost: tracker.example.net\r\n")
        assert "Proxy-Authorization" not in head  # the tracker is not to see it


def test_a_proxy_may_itself_be_reached_by_tls(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(certified(authority, "127.0.0.1")) as (proxy, port):
        monkeypatch.setenv("HTTP_PROXY", f"https://127.0.0.1:{port}")
        assert posted("http://tracker.example.net/watch/event")[1].status == 200
    assert proxy.connections == 1


def test_who_is_excepted_is_reached_without_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(None) as (server, port):
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert posted(f"http://127.0.0.1:{port}/", 1)[0].status == 200
    assert server.heads[0].startswith("POST / HTTP/1.1\r\n")


def test_a_proxy_that_is_not_there_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    outcome = posted("http://tracker.example.net/watch/event", 1)[0]
    assert (outcome.kind, outcome.doubtful) == ("refused", False)
