"""The end of a process, and calls that an exception ends in the middle: nothing hangs, and no connection is lost."""

from __future__ import annotations

import gc
import logging
import re
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
from broken_redis import broken_redis, handshake_then, silent
from uncovered import in_coverage
from waiting import PATIENCE_SECONDS, wait_until

from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.outbox import uwsgi
from insend_relay.outbox.background import Background
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.store import Outbox
from insend_relay.producers import InSend, NotAccepted
from insend_relay.producers.pool import MAX_CONNECTIONS

# At its end Python drops the value of sys.last_value first, while every module is complete. The names of a module have
# no such order: what refers to the module may live longer, and then __del__ runs without sys.stdout, or never.
AT_THE_END = """
import sys
from insend_relay.producers import InSend, NotAccepted

url, namespace, spool, calls_before = sys.argv[1:]


class Last:
    def __init__(self):
        self.insend = InSend(
            app_key="a", domain="shop.example.com", redis_url=url, namespace=namespace, spool=spool,
            enqueue_timeout_ms=60_000,
        )
        self.refused, self.print = NotAccepted, print
        for _ in range(int(calls_before)):
            print(self.insend.link(visitor_uid=1).where)

    def __del__(self):
        try:
            self.print(self.insend.link(visitor_uid=1).where)
        except self.refused as error:
            self.print(error)


sys.last_value = Last()
"""


@pytest.mark.parametrize(
    ("calls_before", "url", "said"),
    [
        (0, "", "no thread to connect to Redis with: Python is shutting down; no thread to write to the spool .*"),
        (1, "", "redis\nredis\n"),
        (1, "redis://127.0.0.1:1/0", "spool\n.*the event was not kept: call again later, or drop it\n"),
    ],
)
def test_a_call_at_the_interpreters_end_does_not_hang(
    calls_before: int, url: str, said: str, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    words = [
        sys.executable,
        "-c",
        AT_THE_END,
        url or redis_url,
        namespace,
        str(tmp_path / "spool.db"),
        f"{calls_before}",
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert re.fullmatch(said, done.stdout, re.DOTALL), (done.stdout, done.stderr)
    assert done.returncode == 0


class Interrupted(BaseException):
    """What the application's signal handler raises."""


@pytest.mark.filterwarnings("ignore")  # a socket that nothing closed, when it was interrupted between two steps
def test_a_call_that_a_signal_handler_ends_by_an_exception_costs_no_connection(insend: InSend) -> None:
    def interrupt(_: int, frame: FrameType | None) -> None:
        if in_coverage(frame):
            signal.setitimer(signal.ITIMER_REAL, 0.0001)
        else:
            raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    try:
        for number in range(20 * MAX_CONNECTIONS):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.00001 + number % 40 * 0.00002)
                insend.link(visitor_uid=1)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupted:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted
    gc.collect()
    assert insend.link(visitor_uid=1).where == "redis"
    pool = insend._link._pools.get()
    assert len(pool._open) == len(pool._idle)


class Interrupting:
    """A socket whose process gets a signal right after it has sent a command; the handler raises an exception."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def send(self, data: memoryview) -> int:
        self._inner.send(data)
        raise TimeoutError("the application's time limit")


def test_a_time_limit_that_ends_a_call_when_its_command_was_sent_does_not_keep_the_event_twice(
    redis_url: str, namespace: str, outbox: Outbox, tmp_path: Path
) -> None:
    settings: Any = {"redis_url": redis_url, "namespace": namespace, "spool": str(tmp_path / "spool.db")}
    with InSend(app_key="a", domain="shop.example.com", enqueue_timeout_ms=60_000, **settings) as insend:
        insend.connect()
        timed = insend._link._pools.get()._idle[0]._socket
        timed._inner = Interrupting(timed._inner)  # type: ignore[assignment]
        assert insend.link(visitor_uid=1).where == "spool"
        wait_until(lambda: not insend._spooling.may_take())
    assert outbox.read("LLEN", outbox.keys.lane(Lane.parse("a/v/1"))) == 1


class Refuses(logging.Filter):
    """An application's own filter, with a defect."""

    def filter(self, _: logging.LogRecord) -> bool:
        raise ZeroDivisionError


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_when_a_defect_has_ended_the_thread_that_connects_calls_go_through_once_redis_is_back(
    namespace: str, tmp_path: Path
) -> None:
    log, refuses = logging.getLogger("insend_relay.producers"), Refuses()
    with EmbeddedRedis(tmp_path, server="redis") as away:
        away.stop()
        with InSend(app_key="a", domain="shop.example.com", redis_url=away.url, namespace=namespace) as insend:
            log.addFilter(refuses)
            try:
                with pytest.raises(NotAccepted):
                    insend.link(visitor_uid=1)
            finally:
                log.removeFilter(refuses)
            away.start()
            wait_until(lambda: is_kept(insend))


def is_kept(insend: InSend) -> bool:
    with suppress(NotAccepted):
        return insend.link(visitor_uid=1).where == "redis"
    return False


class TimeLimit(Exception):
    """As Celery's and RQ's time limits raise one, from a signal handler."""


def test_the_exception_of_a_time_limit_is_not_lost_while_an_answer_is_read(namespace: str) -> None:
    def interrupt(_: int, frame: FrameType | None) -> None:
        if in_coverage(frame):
            signal.setitimer(signal.ITIMER_REAL, 0.0001)
        else:
            raise TimeLimit

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with (
            broken_redis(handshake_then(silent)) as url,
            InSend(
                app_key="a",
                domain="shop.example.com",
                redis_url=url,
                namespace=namespace,
                enqueue_timeout_ms=int(PATIENCE_SECONDS * 1000),
            ) as insend,
        ):
            insend.connect()
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(TimeLimit):
                insend.link(visitor_uid=1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_connection_that_was_lost_between_two_steps_is_counted_no_more(insend: InSend) -> None:
    insend.connect()
    pool = insend._link._pools.get()
    connection = pool._idle.pop()  # as a handler's exception may have it: neither given back nor dropped
    connection.close()  # for the test alone: else Python warns of a socket that nothing closed
    del connection
    gc.collect()
    assert not pool._open
    assert insend.link(visitor_uid=1).where == "redis"


def test_an_older_uwsgi_without_threads_is_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(uwsgi, "_warned", [])
    master: Any = SimpleNamespace(worker_id=lambda: 1, masterpid=lambda: 1, has_threads=0)
    monkeypatch.setitem(sys.modules, "uwsgi", master)
    for _ in range(2):
        ran = threading.Event()
        thread = Background("insend-test", ran.set)
        thread.start()
        assert ran.wait(60)
        thread.stop(60)
    assert caplog.text.count("enable-threads = true") == 1


def test_an_applications_own_uwsgi_module_is_none_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(application=None))
    assert not uwsgi.forks_workers()
