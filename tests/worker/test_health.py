"""Whether a worker makes progress: what it stamps, what it answers, what systemd is told, and what is judged."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from delivering import Append, WorkerProcess, drained
from waiting import wait_until

from insend_relay.console.sandbox.embedded import free_port
from insend_relay.console.sandbox.sandbox import Sandbox
from insend_relay.outbox.store import Outbox
from insend_relay.worker import health
from insend_relay.worker.health import STUCK_SECONDS, Door, Health, ask_all
from insend_relay.worker.progress import MOST_PROCESSES, Progress
from insend_relay.worker.systemd import Watchdog, notify, watchdog_seconds

StartWorker = Callable[..., WorkerProcess]
LONG = STUCK_SECONDS + 1


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What listens where NOTIFY_SOCKET points, in the place of systemd."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(180)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


def the_only(namespace: str) -> Health:
    """The one worker of the namespace, as soon as it answers."""
    (found,) = wait_until(lambda: list(ask_all(namespace)))
    return found


def test_a_step_is_seen_by_the_process_that_forked_and_an_idle_delivery_is_not() -> None:
    progress = Progress()
    end, told = os.pipe()
    child = os.fork()
    if not child:
        progress.delivery(7).step()
        os.write(told, b".")
        time.sleep(600)
        os._exit(0)
    try:
        os.read(end, 1)
        assert list(progress.delivery_seconds()) == [child]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert progress.delivery_seconds() == {}, "a process that was killed delivers nothing"
    own = progress.delivery(None)
    own.step()
    assert list(progress.delivery_seconds()) == [os.getpid()]
    own.idle()
    assert progress.delivery_seconds() == {}


def test_a_pool_larger_than_the_page_works_and_is_not_followed() -> None:
    progress = Progress()
    progress.delivery(MOST_PROCESSES).step()
    assert progress.delivery_seconds() == {}


@pytest.mark.parametrize(
    ("found", "good"),
    [
        (Health(1), True),
        (Health(1, pump_seconds=STUCK_SECONDS - 1, delivery_seconds={2: STUCK_SECONDS - 1}), True),
        (Health(1, pump_seconds=LONG), False),
        (Health(1, delivery_seconds={2: 0.1, 3: LONG}), False),
        (Health(1, stopping=True, pump_seconds=LONG, delivery_seconds={2: LONG}), True),
        (Health(answers=False), False),
    ],
)
def test_a_worker_is_healthy_while_its_pump_and_each_delivery_make_progress(found: Health, good: bool) -> None:  # noqa: FBT001 - the example
    assert found.good == good


def test_each_worker_of_the_machine_answers_and_those_of_another_namespace_are_not_seen(namespace: str) -> None:
    assert list(ask_all(namespace)) == []
    for pid in (1, 2):
        Door(namespace, lambda pid=pid: Health(pid, delivery_seconds={pid: 0.5})).open()  # type: ignore[misc]
    assert sorted(ask_all(namespace), key=lambda found: found.pid) == [
        Health(1, delivery_seconds={1: 0.5}),
        Health(2, delivery_seconds={2: 0.5}),
    ]
    assert list(ask_all(namespace + "-other")) == []


def test_any_number_of_probes_at_once_is_answered(namespace: str) -> None:
    answers, asked = threading.Event(), threading.Event()

    def how() -> Health:
        asked.set()
        answers.wait()
        return Health(1)

    Door(namespace, how).open()
    probes = 300  # more than the backlog holds
    with ThreadPoolExecutor(probes) as pool:
        found = [pool.submit(lambda: list(ask_all(namespace))) for _ in range(probes)]
        asked.wait()
        answers.set()
        assert [probe.result() for probe in found] == [[Health(1)]] * probes


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_a_worker_is_healthy_while_it_delivers_and_while_it_has_nothing_to_do(
    pool: str, append: Append, start_worker: StartWorker, outbox: Outbox, sandbox: Sandbox, namespace: str
) -> None:
    worker = start_worker(pool=pool)
    found = the_only(namespace)
    assert (found.pid, found.good, found.delivery_seconds) == (worker.process.pid, True, {})
    sandbox.misbehave(delay=0.2)
    for number in range(20):
        append("1", number)
    delivering = wait_until(lambda: the_only(namespace).delivery_seconds)
    assert (worker.process.pid in delivering) == (pool != "prefork")
    assert the_only(namespace).good
    drained(outbox)
    wait_until(lambda: not the_only(namespace).delivery_seconds)
    assert the_only(namespace).good


def test_a_worker_without_redis_is_healthy(start_worker: StartWorker, namespace: str) -> None:
    start_worker(redis_url=f"redis://127.0.0.1:{free_port()}/0")
    assert the_only(namespace).good


def test_a_worker_of_a_paused_app_is_healthy(
    append: Append, start_worker: StartWorker, outbox: Outbox, namespace: str
) -> None:
    append("1", 1)
    outbox.pause("app1")
    start_worker()
    assert the_only(namespace).good


def test_a_pool_process_that_hangs_while_it_delivers_makes_no_progress(
    append: Append, start_worker: StartWorker, sandbox: Sandbox, namespace: str
) -> None:
    sandbox.misbehave(delay=3_600)
    append("1", 1)
    start_worker(processes=1)
    (process,) = wait_until(lambda: the_only(namespace).delivery_seconds)
    os.kill(process, signal.SIGSTOP)
    wait_until(lambda: the_only(namespace).delivery_seconds[process] > 3)
    os.kill(process, signal.SIGCONT)
    wait_until(lambda: the_only(namespace).delivery_seconds[process] < 1)


def test_a_worker_that_hangs_as_a_whole_does_not_answer_and_one_that_was_killed_is_gone(
    start_worker: StartWorker, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = start_worker()
    the_only(namespace)
    monkeypatch.setattr(health, "ANSWER_SECONDS", 0.5)
    worker.signal(signal.SIGSTOP, group=False)
    wait_until(lambda: [found.answers for found in ask_all(namespace)] == [False])
    worker.signal(signal.SIGKILL, group=False)
    worker.process.wait()
    assert wait_until(lambda: not list(ask_all(namespace))), "its pool does not keep the socket"


def test_systemd_is_told_that_a_worker_is_ready_alive_and_stopping(
    systemd: socket.socket, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "60000")
    worker = start_worker()
    assert [systemd.recv(100) for _ in range(4)] == [b"READY=1", *[b"WATCHDOG=1"] * 3]
    worker.signal(signal.SIGTERM, group=False)
    wait_until(lambda: systemd.recv(100) == b"STOPPING=1")
    assert worker.process.wait(180) == 0


def test_systemd_gets_no_sign_of_life_from_a_worker_without_progress(
    systemd: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    states = iter([Health(1), Health(1, pump_seconds=LONG), Health(1, pump_seconds=LONG), Health(1)])
    asked: list[Health] = []

    def how() -> Health:
        asked.append(next(states, Health(answers=False)))
        return asked[-1]

    Watchdog(0.03, how).start()
    wait_until(lambda: len(asked) > 6)
    assert [systemd.recv(100) for _ in range(2)] == [b"WATCHDOG=1", b"WATCHDOG=1"]
    systemd.settimeout(0)
    with pytest.raises(BlockingIOError):
        systemd.recv(100)
    assert caplog.text.count("makes no progress") == 2


def test_an_abstract_socket_of_systemds_will_do(monkeypatch: pytest.MonkeyPatch, namespace: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{namespace}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{namespace}")
        notify("READY=1")
        assert listening.recv(100) == b"READY=1"


def test_without_systemd_nothing_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    assert caplog.text == ""
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/notify")
    notify("READY=1")
    assert "systemd cannot be told READY=1" in caplog.text


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        ("60000000", "", 60.0),
        ("60000000", "{pid}", 60.0),
        ("60000000", "1", None),
        ("", "", None),
        ("0", "", None),
        ("soon", "", None),
    ],
)
def test_the_watchdog_is_ours_when_systemd_means_this_process(
    usec: str, pid: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", pid.format(pid=os.getpid()))
    assert watchdog_seconds() == seconds
