"""The table of situations in docs/cli.md: each row is created, and the commands say what it says there."""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme
from answering import answer, answering, certified
from attempts import retry
from broken_redis import broken_redis, silent
from command_line import ALICE, CommandLine, alive, claim, event, letter, put, settle
from delivering import payload
from lanes import make_newer
from waiting import wait_until

from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.console.sandbox.sandbox import Sandbox
from insend_relay.operations.books import read_relay, whole
from insend_relay.operations.status import read_clock, read_paused
from insend_relay.outbox.connection import connect
from insend_relay.outbox.entry import Entry
from insend_relay.outbox.heartbeat import Heartbeat
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.record import new_id
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.outbox.trying import Tried
from insend_relay.spool.spool import Spool
from insend_relay.worker.delivery import Delivery
from insend_relay.worker.stop import Stop

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
MOVED = "Location: https://new.example.net/watch/event"
TOKENS = {
    r"\bN\b": r"[\\d.,]+( (s|min|h|d|events?|visitors?|workers?|dead letters?))?",
    r"\bTIME\b": r"(\\d{4}-\\d\\d-\\d\\d )?\\d\\d:\\d\\d",  # with its date when it is not of today
    r"\bAPP\b": r"shop",
    r"\bHOST:(PID|PORT)\b": r"[\\w.-]+:\\d+",
    r"…": r".*",
}


class Row(NamedTuple):
    """One situation, as the page has it."""

    situation: str
    first_line: str
    exit_code: int
    doctor: str


class Place(NamedTuple):
    """Where a situation is created."""

    insend: CommandLine
    outbox: Outbox
    folder: Path
    environment: pytest.MonkeyPatch

    def put_for(self, visitors: int) -> None:
        """An event of each of so many visitors."""
        for number in range(visitors):
            put(self.outbox, Lane("shop", "v", f"v-{number}"))

    @contextmanager
    def delivering(self, tracker_url: str, **changes: float) -> Iterator[None]:
        """A worker's delivery goes on; its probes are ten minutes apart."""
        self.insend.settings["INSEND_TRACKER_URL"] = tracker_url
        waits = {"outage_first_seconds": 600.0, "outage_max_seconds": 600.0, "retry_first_seconds": 600.0}
        settings = Settings(
            redis_url=self.insend.settings["INSEND_REDIS_URL"],
            namespace=self.outbox.keys.namespace,
            tracker_url=tracker_url,
            concurrency=16,
            **{**waits, "retry_max_seconds": 600.0, **changes},  # type: ignore[arg-type]
        )
        stop = Stop(0)  # what is in flight at the end is cut
        delivery = Delivery(self.outbox, settings, stop)

        def deliver() -> None:
            while not stop.asked:
                delivery.run()

        thread = threading.Thread(target=deliver)
        thread.start()
        try:
            yield
        finally:
            stop.ask()
            thread.join()
            delivery.finish()

    def fails_at(self, tracker_url: str, *, visitors: int = 6, never_delivered: bool = False, **changes: float) -> None:
        """A worker sends to this tracker until that pauses the app; the tracker took an event an hour before."""
        if not never_delivered:
            put(self.outbox)
            settle(self.outbox, claim(self.outbox))
            self.outbox.read("HINCRBY", self.outbox.keys.outage("shop"), "last_ok", -3_600_000)
        self.put_for(visitors)
        with self.delivering(tracker_url, **changes):
            wait_until(lambda: read_paused(self.outbox, "shop"))
        alive(self.outbox)


def rows() -> list[Row]:
    """The table."""
    text = PAGE.read_text(encoding="utf-8").partition("### Situations\n")[2]
    lines = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("| ")][2:]
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    return [Row(name, _said(first), int(code), _said(doctor)) for name, first, code, doctor in cells]


def _said(cell: str) -> str:
    """The text in code quotes; of a cell that explains, the quoted part."""
    found = re.search(r"(?P<ticks>`+) ?(.+?) ?(?P=ticks)(?!`)", cell)
    assert found, cell
    return found[2]


def pattern(text: str) -> re.Pattern[str]:
    """What a documented line matches."""
    escaped = re.escape(text).replace("\\ ", " ").replace("\\:", ":")
    for token, meant in TOKENS.items():
        escaped = re.sub(token, meant, escaped)
    return re.compile(escaped)


@contextmanager
def healthy(place: Place) -> Iterator[None]:
    put(place.outbox)
    alive(place.outbox)
    yield


@contextmanager
def idle(place: Place) -> Iterator[None]:
    alive(place.outbox)
    yield


@contextmanager
def slow(place: Place) -> Iterator[None]:
    for number in range(1_000):
        place.outbox.append(Lane("app1", "v", "42"), new_id(), payload("42", number))
    with Sandbox() as tracker:
        tracker.misbehave(delay=0.5)
        with place.delivering(tracker.url):
            wait_until(lambda: whole(read_relay(place.outbox)).delivered > 1)
            alive(place.outbox)
            yield


def answered(status: str, body: str = "", *headers: str) -> Callable[[Place], object]:
    """A tracker that gives everyone this answer."""

    @contextmanager
    def situation(place: Place) -> Iterator[None]:
        with answering(answer(status, body, *headers)) as (_, port):
            place.fails_at(f"http://127.0.0.1:{port}/watch/event")
            yield

    return situation


@contextmanager
def down(place: Place) -> Iterator[None]:
    place.fails_at("http://127.0.0.1:1/watch/event")
    yield


@contextmanager
def down_for_long(place: Place) -> Iterator[None]:
    with down(place):
        outage = place.outbox.keys.outage("shop")
        place.outbox.read("HINCRBY", outage, "since", -2 * 3_600_000)
        yield


@contextmanager
def wrong_port(place: Place) -> Iterator[None]:
    place.fails_at(  # one visitor is enough; the breaker opens at the third attempt
        "http://127.0.0.1:1/watch/event", visitors=1, never_delivered=True, retry_first_seconds=0.1
    )
    yield


@contextmanager
def quiet_shop(place: Place) -> Iterator[None]:
    put(place.outbox)
    held = claim(place.outbox)
    began = read_clock(place.outbox) - 2 * 3_600_000
    tried = Tried(held.id, 9, 0, began, began + 1_000, "unknown: no whole answer within 15 s")
    retry(place.outbox, held, tried, delay_ms=300_000, duplicate=True)
    alive(place.outbox)
    yield


@contextmanager
def does_not_answer(place: Place) -> Iterator[None]:
    with broken_redis(silent) as address:  # it reads, and says nothing
        place.fails_at(address.replace("redis://", "http://"), post_timeout_seconds=3)
        yield


@contextmanager
def expired(place: Place) -> Iterator[None]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(place.folder / "ca.pem"))
    place.environment.setenv("REQUESTS_CA_BUNDLE", str(place.folder / "ca.pem"))
    yesterday = datetime.now(UTC) - timedelta(days=1)
    with answering(answer("200 OK"), certified(authority, not_after=yesterday)) as (_, port):
        place.fails_at(f"https://127.0.0.1:{port}/")
        yield


@contextmanager
def unknown_authority(place: Place) -> Iterator[None]:
    with answering(answer("200 OK"), certified(trustme.CA())) as (_, port):
        place.fails_at(f"https://127.0.0.1:{port}/")
        yield


@contextmanager
def wrong_proxy_password(place: Place) -> Iterator[None]:
    with answering(answer("407 Proxy Authentication Required")) as (_, port):
        place.environment.setenv("HTTPS_PROXY", f"http://user:wrong@127.0.0.1:{port}")
        place.fails_at("https://tracker.example.net/watch/event")
        yield


@contextmanager
def no_such_host(place: Place) -> Iterator[None]:
    place.fails_at("http://missing.invalid/watch/event")
    yield


@contextmanager
def paused_by_hand(place: Place) -> Iterator[None]:
    with healthy(place):
        place.insend("pause", "shop")
        yield


@contextmanager
def no_worker(place: Place) -> Iterator[None]:
    put(place.outbox)
    stopped = Heartbeat(place.outbox, "web-1:4711")
    stopped.beat()
    stopped.leave()
    yield


@contextmanager
def no_worker_in_an_outage(place: Place) -> Iterator[None]:
    with down(place):
        place.outbox.read("DEL", place.outbox.keys.workers)
        yield


@contextmanager
def hung(place: Place) -> Iterator[None]:
    with healthy(place):
        for name, at in place.outbox.redis.zrange(place.outbox.keys.workers, 0, -1, withscores=True):  # type: ignore[attr-defined]
            place.outbox.read("ZADD", place.outbox.keys.workers, at - 240_000, name)
        yield


@contextmanager
def stalled(place: Place) -> Iterator[None]:
    with healthy(place):
        place.outbox.read("ZADD", place.outbox.keys.due("shop"), 1_000, str(ALICE))
        place.outbox.read("ZADD", place.outbox.keys.apps, 1_000, "shop")
        yield


@contextmanager
def after_a_rollback(place: Place) -> Iterator[None]:
    with newer_event(place, seconds_ago=60):
        yield


@contextmanager
def newer_event(place: Place, *, seconds_ago: int = 0) -> Iterator[None]:
    with healthy(place):
        make_newer(place.outbox, seconds_ago=seconds_ago)
        assert place.outbox.claim("web-1:4711", 1, lease_ms=1_000) == []
        yield


@contextmanager
def another_namespace(place: Place) -> Iterator[None]:
    put(place.outbox)
    other = Outbox(place.outbox.redis, namespace="staging")
    alive(other)
    yield


@contextmanager
def mistyped_namespace(place: Place) -> Iterator[None]:
    with healthy(place):
        place.insend.settings["INSEND_NAMESPACE"] = "inesnd"
        yield


@contextmanager
def full(place: Place) -> Iterator[None]:
    with healthy(place):
        place.outbox.read("CONFIG", "SET", "maxmemory", 1)
        alive(place.outbox)
        yield


@contextmanager
def full_soon(place: Place) -> Iterator[None]:
    place.put_for(1_000)
    alive(place.outbox)
    used = place.outbox.read("INFO", "memory")["used_memory"]
    place.outbox.read("CONFIG", "SET", "maxmemory", used + 300_000)
    yield


@contextmanager
def too_few_replicas(place: Place) -> Iterator[None]:
    place.outbox.check_layout()
    with healthy(place):
        place.outbox.read("CONFIG", "SET", "min-replicas-to-write", 1)
        yield


@contextmanager
def flushed(place: Place) -> Iterator[None]:
    worker = Heartbeat(place.outbox, "web-1:4711")
    place.put_for(12)
    worker.beat()
    place.outbox.read("FLUSHALL")
    worker.beat()
    yield


@contextmanager
def old_copy(place: Place) -> Iterator[None]:
    worker = Heartbeat(place.outbox, "web-1:4711")
    place.put_for(3)
    worker.beat()
    copy = {key: place.outbox.read("DUMP", key) for key in place.outbox.read("KEYS", "*")}
    place.put_for(9)
    worker.beat()
    place.outbox.read("FLUSHALL")
    for key, dump in copy.items():
        place.outbox.read("RESTORE", key, 0, dump)
    worker.beat()
    yield


@contextmanager
def clock_set_back(place: Place) -> Iterator[None]:
    with healthy(place):
        for key in (place.outbox.keys.apps, place.outbox.keys.due("shop")):
            (member,) = place.outbox.read("ZRANGE", key, 0, -1)
            place.outbox.read("ZINCRBY", key, 3_600_000, member)  # as a step back of an hour leaves it
        yield


@contextmanager
def unbalanced(place: Place) -> Iterator[None]:
    with healthy(place):
        place.outbox.read("HINCRBY", place.outbox.keys.books_of("1"), "delivered", 1)
        yield


@contextmanager
def stuck_spool(place: Place) -> Iterator[None]:
    path = place.folder / "spool.db"
    spool = Spool(path, namespace=place.outbox.keys.namespace, most_bytes=10**8)
    spool.keep([(Entry(ALICE, new_id(), event()), "")], deadline=time.monotonic() + 60)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE events SET kept_at_ms = kept_at_ms - 600000")
    database.close()
    place.insend.settings["INSEND_SPOOL"] = str(path)
    with healthy(place):
        yield


@contextmanager
def spool_of_another_namespace(place: Place) -> Iterator[None]:
    path = place.folder / "spool.db"
    Spool(path, namespace="insend", most_bytes=10**8).keep([], deadline=time.monotonic() + 60)
    place.insend.settings.update({"INSEND_SPOOL": str(path), "INSEND_NAMESPACE": "inesnd"})
    with healthy(place):
        yield


@contextmanager
def damaged_spool(place: Place) -> Iterator[None]:
    path = place.folder / "spool.db"
    path.write_text("this is no database\n" * 1_000)
    place.insend.settings["INSEND_SPOOL"] = str(path)
    with healthy(place):
        yield


@contextmanager
def mistyped_spool(place: Place) -> Iterator[None]:
    place.insend.settings["INSEND_SPOOL"] = str(place.folder / "nosuchdir" / "x" / "spool.db")
    with healthy(place):
        yield


@contextmanager
def dead_letters(place: Place) -> Iterator[None]:
    letter(place.outbox)
    alive(place.outbox)
    yield


@contextmanager
def redis_away(place: Place) -> Iterator[None]:
    place.insend.settings["INSEND_REDIS_URL"] = "redis://127.0.0.1:1/0"
    place.insend.settings["INSEND_SPOOL"] = str(place.folder / "spool.db")
    yield


SITUATIONS: dict[str, Callable[[Place], object]] = {
    "healthy": healthy,
    "healthy and idle": idle,
    "the tracker is slow": slow,
    "rate-limited (429)": answered("429 Too Many Requests", "slow down"),
    "the tracker answers 503": answered("503 Service Unavailable", "<h1>Try later</h1>"),
    "the tracker is down": down,
    "the tracker has been down for more than an hour": down_for_long,
    "a wrong port, since the start": wrong_port,
    "a quiet shop's only event has failed for more than an hour": quiet_shop,
    "the tracker does not answer in time": does_not_answer,
    "the key is revoked (401)": answered("401 Unauthorized", "key revoked"),
    "a wrong address (404)": answered("404 Not Found"),
    "the tracker has moved (301)": answered("301 Moved Permanently", "<a>here</a>", MOVED),
    "the tracker refuses all events (400)": answered("400 Bad Request", "no such domain"),
    "the certificate has expired": expired,
    "the certificate is of an unknown authority": unknown_authority,
    "the proxy refuses our password": wrong_proxy_password,
    "no such host": no_such_host,
    "an operator paused the app": paused_by_hand,
    "no worker": no_worker,
    "no worker, and the tracker is down": no_worker_in_an_outage,
    "the worker died or its process hangs": hung,
    "the worker is alive and does not send": stalled,
    "a newer release wrote events, and its workers are about to start": newer_event,
    "a newer release wrote events, and it has no worker (after a rollback)": after_a_rollback,
    "the worker has another namespace": another_namespace,
    "INSEND_NAMESPACE is mistyped": mistyped_namespace,
    "Redis is full": full,
    "Redis is full within two hours": full_soon,
    "Redis has too few replicas": too_few_replicas,
    "Redis was flushed": flushed,
    "Redis has loaded an old copy": old_copy,
    "Redis's clock was set back": clock_set_back,
    "the books do not balance": unbalanced,
    "the spool is stuck": stuck_spool,
    "INSEND_NAMESPACE is not that of the spool": spool_of_another_namespace,
    "the spool's file is damaged": damaged_spool,
    "INSEND_SPOOL is mistyped": mistyped_spool,
    "dead letters": dead_letters,
    "Redis is away": redis_away,
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A Redis of the test's own: some situations break it."""
    with (
        EmbeddedRedis(tmp_path, server="redis", config={"appendonly": "no", "maxmemory": "64mb"}) as server,
        connect(server.url, timeout_seconds=60) as client,
    ):
        yield Place(CommandLine(server.url, "insend"), Outbox(client), tmp_path, monkeypatch)


def test_the_table_has_every_situation() -> None:
    assert [row.situation for row in rows()] == list(SITUATIONS)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.situation)
def test_the_commands_say_what_the_table_says(row: Row, place: Place) -> None:
    with SITUATIONS[row.situation](place):  # type: ignore[attr-defined]
        status, doctor = place.insend("status"), place.insend("doctor")
    first = (status.stdout or status.stderr.removeprefix("insend: ")).splitlines()[0]
    assert pattern(row.first_line).fullmatch(first), first
    assert status.exit_code == row.exit_code
    lines = [" ".join(line.split()) for line in doctor.stdout.splitlines()]
    assert any(pattern(row.doctor).fullmatch(line) for line in lines), "\n".join(lines)


def test_a_jump_of_the_books_is_shown_until_it_is_acknowledged(place: Place) -> None:
    with flushed(place):
        assert place.insend("status").exit_code == 1
        shown = place.insend.json("status")["jumps"]
        assert [(jump["accepted_before"], jump["accepted_after"]) for jump in shown] == [(12, 0)]
        told = place.insend("status", "--acknowledge")
    assert "acknowledged: accepted went from 12 to 0 at " in told.stderr
    assert told.stdout.startswith("OK: nothing waiting")
    assert told.exit_code == 0
    assert place.insend("status").stdout.startswith("OK: nothing waiting")
