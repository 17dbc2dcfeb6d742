"""Happy eyeballs: a host has several addresses, and one that works is used whatever the others do."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent
import gevent.socket
import pytest
from fronts import Front
from waiting import PATIENCE_SECONDS

from insend_relay.outbox.addresses import SocketAddress, interleaved
from insend_relay.outbox.record import Record, new_id
from insend_relay.worker.dialing import Dialer
from insend_relay.worker.form import form
from insend_relay.worker.outcome import Outcome
from insend_relay.worker.tracker import Tracker

BODY = form("app1/v/42", Record(new_id().bytes, 1, 1, 0, "", b'{"a":"b"}'))
GOOD, BAD, WORSE = "127.0.0.1", "127.0.0.2", "127.0.0.3"
FOUR, SIX = socket.AF_INET, socket.AF_INET6


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give the name tracker.example.net some addresses, in this order."""

    def addresses(*hosts: str) -> None:
        def look_up(_: str, port: int, **__: object) -> list[object]:
            return [(FOUR, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port)) for host in hosts]

        monkeypatch.setattr("gevent.socket.getaddrinfo", look_up)

    return addresses


@contextmanager
def swallowing(host: str, port: int) -> Iterator[None]:
    """At this address nothing answers a SYN: the queue of a server that accepts nothing is full."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((host, port))
        server.listen(0)
        for _ in range(2):
            queued = stack.enter_context(socket.socket())
            queued.setblocking(False)
            queued.connect_ex((host, port))
        yield


@contextmanager
def silent(host: str, port: int) -> Iterator[None]:
    """At this address connections are taken, and nothing on them is ever answered."""
    with socket.create_server((host, port), backlog=100):
        yield


@contextmanager
def posting(url: str, timeout_seconds: float = PATIENCE_SECONDS) -> Iterator[Callable[..., Outcome]]:
    """A client; each POST opens a new connection."""
    client = Tracker(url, timeout_seconds=timeout_seconds, connections=4)
    try:
        yield lambda: gevent.spawn(client.post, BODY, fresh=True).get()
    finally:
        client.close()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("bad", [swallowing, silent])
def test_a_bad_address_does_not_hide_a_good_one(name: Callable[..., None], bad: Callable[..., object]) -> None:
    with Front(GOOD) as front, bad(BAD, front.port):  # type: ignore[attr-defined]
        name(BAD, GOOD)
        with posting(front.url("tracker.example.net"), PATIENCE_SECONDS if bad is swallowing else 3) as post:
            outcomes = [post() for _ in range(4)]
    lost = 0 if bad is swallowing else 1
    assert [outcome.delivered for outcome in outcomes] == [False] * lost + [True] * (4 - lost)


def test_an_address_that_refuses_does_not_hide_a_good_one(name: Callable[..., None]) -> None:
    with Front(GOOD) as front:
        name(BAD, WORSE, GOOD)
        with posting(front.url("tracker.example.net")) as post:
            assert post().delivered


def test_a_proxys_bad_address_does_not_hide_a_good_one(
    name: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Front(GOOD) as front, swallowing(BAD, front.port):
        monkeypatch.setenv("HTTP_PROXY", f"http://proxy.example.net:{front.port}")
        name(BAD, GOOD)
        with posting("http://tracker.example.net/watch/event") as post:
            assert post().delivered


def test_without_any_good_address_the_request_is_not_sent(name: Callable[..., None]) -> None:
    with Front(GOOD) as front:
        name(BAD, WORSE)
        with posting(front.url("tracker.example.net")) as post:
            outcome = post()
    assert (outcome.kind, outcome.reason, outcome.doubtful) == ("refused", "connection refused", False)


def test_the_deadline_ends_all_attempts_and_nothing_stays_open(name: Callable[..., None]) -> None:
    with Front(GOOD) as front, swallowing(BAD, front.port), swallowing(WORSE, front.port):
        name(BAD, WORSE)
        with posting(front.url("tracker.example.net"), 1.5) as post:
            before = open_files()
            outcome = post()
            gevent.sleep(0)
            assert open_files() <= before
    assert (outcome.kind, outcome.reason) == ("refused", "connecting took too long")


def test_a_shutdown_ends_all_attempts(name: Callable[..., None]) -> None:
    with Front(GOOD) as front, swallowing(BAD, front.port), swallowing(WORSE, front.port):
        name(BAD, WORSE)
        client = Tracker(front.url("tracker.example.net"), timeout_seconds=2 * PATIENCE_SECONDS, connections=4)
        call = gevent.spawn(client.post, BODY)
        while not call.ready():
            client.cut()
            gevent.sleep(0.01)
    assert (call.value.kind, call.value.was_cut) == ("refused", True)


# The dialer


def test_the_losers_are_closed(name: Callable[..., None]) -> None:
    with Front(GOOD) as front, swallowing(BAD, front.port), swallowing(WORSE, front.port):
        name(BAD, WORSE, GOOD)
        dialer = Dialer()
        before = open_files()
        connection, address = dialer.connect(dialer.resolve("tracker.example.net", front.port), [])
        gevent.sleep(0)
        assert address == SocketAddress(FOUR, (GOOD, front.port))
        assert open_files() <= before + 2, "the winner's two ends"
        connection.close()


def test_what_worked_last_is_tried_first_and_what_failed_last_is_tried_last(name: Callable[..., None]) -> None:
    name(GOOD, BAD, WORSE)
    dialer = Dialer()

    def order() -> list[str]:
        return [address.place[0] for address in dialer.resolve("tracker.example.net", 443)]

    good, bad, worse = dialer.resolve("tracker.example.net", 443)
    assert order() == [GOOD, BAD, WORSE]
    dialer.worked(worse)
    assert order() == [WORSE, GOOD, BAD]
    dialer.failed(worse)
    dialer.failed(good)
    assert order() == [BAD, WORSE, GOOD]
    dialer.worked(worse)
    assert order() == [WORSE, BAD, GOOD]
    dialer.worked(bad)
    assert order() == [BAD, WORSE, GOOD]


def test_the_families_take_turns_and_the_first_one_stays_first() -> None:
    six = [SocketAddress(SIX, (f"2001:db8::{number}", 443, 0, 0)) for number in range(3)]
    four = [SocketAddress(FOUR, (f"192.0.2.{number}", 443)) for number in range(2)]
    assert interleaved([*six, *four]) == [six[0], four[0], six[1], four[1], six[2]]
    assert interleaved([*four, *six]) == [four[0], six[0], four[1], six[1], six[2]]
    assert interleaved(four) == four


def test_a_connection_finds_out_by_itself_that_the_other_side_has_gone() -> None:
    with Front(GOOD) as front:
        connection, _ = Dialer().connect([SocketAddress(FOUR, (GOOD, front.port))], [])
        with connection:
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) < 60


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")
def test_both_families_are_used() -> None:
    with Front(GOOD) as front:
        dead = SocketAddress(SIX, ("::1", front.port, 0, 0))
        connection, address = Dialer().connect([dead, SocketAddress(FOUR, (GOOD, front.port))], [])
        connection.close()
    assert address.family == FOUR
