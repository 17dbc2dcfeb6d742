"""Which idle connection a POST may use: one that works, or none."""

from __future__ import annotations

import socket
from collections.abc import Callable

import gevent
import pytest
from fronts import Front
from waiting import PATIENCE_SECONDS

from insend_relay.outbox.record import Record, new_id
from insend_relay.worker import idle_connections
from insend_relay.worker.form import form
from insend_relay.worker.idle_connections import (
    AGE_SPREAD,
    MAX_AGE_SECONDS,
    MAX_IDLE_SECONDS,
    IdleConnections,
    expires_at,
)
from insend_relay.worker.outcome import Outcome
from insend_relay.worker.tracker import Tracker

BODY = form("app1/v/42", Record(new_id().bytes, 1, 1, 0, "", b'{"a":"b"}'))
BURST = 8


class Connection:
    """A connection that stays open until it is closed."""

    def __init__(self, expires_at: float = 1e9) -> None:
        self.idle_seconds = MAX_IDLE_SECONDS
        self.expires_at = expires_at
        self.answered_at = 0.0
        self.is_connected = True

    def close(self) -> None:
        self.is_connected = False


class Kept:
    """Idle connections, and the clock that they go by."""

    def __init__(self, room: int = 10) -> None:
        self.now = 1_000.0
        self.idle = IdleConnections(room, lambda: self.now)

    def put(self, connection: Connection, allowed_seconds: float | None = None) -> Connection:
        self.idle.put(connection, allowed_seconds)
        return connection

    def take(self) -> object:
        return self.idle.take(self.now)


def test_the_connection_that_was_used_last_is_used_next() -> None:
    kept = Kept()
    first, second = kept.put(Connection()), kept.put(Connection())
    assert [kept.take(), kept.take(), kept.take()] == [second, first, None]


def test_no_more_are_kept_than_there_is_room_for() -> None:
    kept = Kept(room=1)
    first, second = kept.put(Connection()), kept.put(Connection())
    assert not second.is_connected
    assert kept.take() is first


@pytest.mark.parametrize(("idle_seconds", "used"), [(MAX_IDLE_SECONDS - 1, True), (MAX_IDLE_SECONDS, False)])
def test_a_connection_that_was_idle_for_too_long_is_closed(idle_seconds: float, used: bool) -> None:  # noqa: FBT001
    kept = Kept()
    connection = kept.put(Connection())
    kept.now += idle_seconds
    assert (kept.take() is connection, connection.is_connected) == (used, used)


def test_the_server_may_shorten_that_time_and_not_lengthen_it() -> None:
    kept = Kept()
    shorter, longer = kept.put(Connection(), 4), kept.put(Connection(), 1_000)
    assert (shorter.idle_seconds, longer.idle_seconds) == (4, MAX_IDLE_SECONDS)
    kept.now += 4
    assert [kept.take(), kept.take()] == [longer, None]


def test_what_the_server_said_once_holds_for_the_connection() -> None:
    kept = Kept()
    connection = kept.put(Connection(), 4)
    assert kept.take() is connection
    kept.put(connection)
    kept.now += 4
    assert kept.take() is None


def test_a_connection_that_may_not_be_idle_at_all_is_closed_at_once() -> None:
    assert not Kept().put(Connection(), 0).is_connected


def test_a_connection_that_is_used_again_and_again_ends_by_its_age() -> None:
    kept = Kept()
    connection = Connection(expires_at=kept.now + MAX_AGE_SECONDS)
    while kept.now < connection.expires_at - MAX_IDLE_SECONDS / 2:
        assert kept.put(connection).is_connected
        kept.now += MAX_IDLE_SECONDS / 2
        assert kept.take() is connection
    kept.now = connection.expires_at
    kept.put(connection)
    assert kept.take() is None


def test_the_connections_of_a_burst_do_not_expire_at_the_same_moment() -> None:
    moments = [expires_at(0) for _ in range(100)]
    assert len(set(moments)) > 1
    assert all(abs(moment - MAX_AGE_SECONDS) <= AGE_SPREAD * MAX_AGE_SECONDS for moment in moments)


def test_after_a_post_without_an_answer_those_that_have_answered_since_it_began_stay() -> None:
    kept = Kept()
    silent = [kept.put(Connection()) for _ in range(3)]
    kept.now += 1
    began_at = kept.now
    kept.now += 1
    answered = kept.put(Connection())
    kept.idle.drop_unanswered_since(began_at)
    assert not any(connection.is_connected for connection in silent)
    assert [kept.take(), kept.take()] == [answered, None]


def test_connections_that_nothing_uses_are_closed_after_a_while() -> None:
    kept = Kept()
    old, gone = kept.put(Connection()), kept.put(Connection(), 1)
    kept.now += MAX_IDLE_SECONDS - 1
    recent = kept.put(Connection())
    kept.idle.sweep()
    assert (old.is_connected, gone.is_connected, recent.is_connected) == (True, False, True)
    kept.now += MAX_IDLE_SECONDS
    kept.idle.sweep()
    assert len(kept.idle) == 0
    assert not recent.is_connected


# A tracker's client


def wait_in_a_greenlet(condition: Callable[[], bool]) -> None:
    """Until something is so; the thread's other greenlets go on."""
    with gevent.Timeout(PATIENCE_SECONDS):
        while not condition():
            gevent.sleep(0.01)


def burst(client: Tracker, front: Front) -> None:
    """Posts at the same moment, so that as many connections are open afterwards."""
    before = len(front.posts)
    front.hold()
    calls = [gevent.spawn(client.post, BODY) for _ in range(BURST)]
    wait_in_a_greenlet(lambda: len(front.posts) == before + BURST)
    front.answer()
    assert all(call.get().delivered for call in calls)


def posted(client: Tracker, *, fresh: bool = False) -> Outcome:
    """One event; the time goes on for the greenlets meanwhile."""
    outcome: Outcome = gevent.spawn(client.post, BODY, fresh=fresh).get()
    return outcome


def test_they_are_closed_without_another_post(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_connections, "MAX_IDLE_SECONDS", 0.2)
    monkeypatch.setattr(idle_connections, "SWEEP_SECONDS", 0.05)
    with Front(headers="Keep-Alive: timeout=100\r\n") as front:
        client = Tracker(front.url(), timeout_seconds=60, connections=BURST)
        burst(client, front)
        wait_in_a_greenlet(lambda: not front.open)
        client.close()


@pytest.mark.parametrize("fault", ["forgets", "resets"])
def test_one_post_at_most_is_lost_to_connections_that_no_longer_work(fault: str) -> None:
    with Front() as front:
        client = Tracker(front.url(), timeout_seconds=3, connections=BURST)
        burst(client, front)
        (front.forget if fault == "forgets" else front.reset)()
        first = posted(client)
        others = [posted(client) for _ in range(BURST)]
        client.close()
    assert (first.kind, first.doubtful) == ("unknown", True)
    assert all(outcome.delivered for outcome in others)
    assert front.connections == BURST + 1, "and the new connection is used again"


def test_a_slow_answer_costs_no_connection_that_has_answered_since() -> None:
    with Front() as front:
        client = Tracker(front.url(), timeout_seconds=3, connections=BURST)
        burst(client, front)
        front.forget()
        silent = gevent.spawn(client.post, BODY)
        wait_in_a_greenlet(lambda: len(front.posts) > BURST)
        answered = posted(client, fresh=True)
        assert silent.get().kind == "unknown"
        assert answered.delivered
        assert posted(client).delivered
        client.close()
    assert front.connections == BURST + 1
    assert front.posts[-1] == BURST


def test_a_post_that_is_to_have_a_new_connection_gets_one() -> None:
    with Front() as front:
        client = Tracker(front.url(), timeout_seconds=60, connections=BURST)
        assert [posted(client, fresh=True).delivered for _ in range(3)] == [True] * 3
        client.close()
    assert front.posts == [0, 1, 2]


def test_after_an_answer_with_both_lengths_a_connection_is_not_used_again() -> None:
    with Front(headers="Transfer-Encoding: identity\r\n") as front:
        client = Tracker(front.url(), timeout_seconds=60, connections=BURST)
        assert all(posted(client).delivered for _ in range(3))
        client.close()
    assert front.posts == [0, 1, 2]


@pytest.mark.parametrize("more", ["", "Connection: keep-alive\r\nX: y\r\n"])
@pytest.mark.parametrize(("seconds", "connections"), [(1, 3), (100, 1)])
def test_a_server_that_says_when_it_closes_is_believed(seconds: int, connections: int, more: str) -> None:
    with Front(headers=f"Keep-Alive: timeout={seconds}, max=100\r\n{more}") as front:
        client = Tracker(front.url(), timeout_seconds=60, connections=BURST)
        assert all(posted(client).delivered for _ in range(3))
        client.close()
    assert front.connections == connections


class Name:
    """A name whose address changes.

    Attributes:
        address: The one that is found now.
    """

    def __init__(self) -> None:
        self.address = "127.0.0.1"

    def look_up(self, _: str, port: int, **__: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (self.address, port))]


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch) -> Name:
    name = Name()
    monkeypatch.setattr("gevent.socket.getaddrinfo", name.look_up)
    return name


def test_a_moved_name_is_followed_when_the_old_address_is_silent(name: Name) -> None:
    with Front("127.0.0.1", "127.0.0.2") as front:
        client = Tracker(front.url("tracker.example.net"), timeout_seconds=3, connections=BURST)
        burst(client, front)
        name.address = "127.0.0.2"
        front.forget()
        assert posted(client).kind == "unknown"
        assert posted(client).delivered
        client.close()
    assert front.peers == ["127.0.0.1"] * BURST + ["127.0.0.2"]


def test_a_moved_name_is_followed_when_the_old_address_still_answers(
    name: Name, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle_connections, "MAX_AGE_SECONDS", 0)
    with Front("127.0.0.1", "127.0.0.2") as front:
        client = Tracker(front.url("tracker.example.net"), timeout_seconds=60, connections=BURST)
        assert posted(client).delivered
        name.address = "127.0.0.2"
        assert posted(client).delivered
        client.close()
    assert front.peers == ["127.0.0.1", "127.0.0.2"]
