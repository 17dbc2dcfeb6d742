"""`make run`, from start to Ctrl-C, in a folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from waiting import PATIENCE_SECONDS, wait_until

from insend_relay.console.sandbox.quickstart import examples
from insend_relay.operations.status import read_status
from insend_relay.outbox.connection import connect
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.record import new_id
from insend_relay.outbox.store import Outbox

REPOSITORY = Path(__file__).parent.parent.parent
COMMAND = [sys.executable, "-m", "insend_relay.console.sandbox.quickstart"]
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(REPOSITORY / "Procfile", tmp_path)
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def start(**more: str) -> subprocess.Popen[bytes]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("INSEND_")} | more
        with (folder / "output").open("wb") as output:
            run = subprocess.Popen(COMMAND, cwd=folder, env=environ, stdout=output, stderr=output)
        started.append(run)
        return run

    yield start
    for run in started:
        run.terminate()
        run.wait()


def output(folder: Path) -> str:
    return (folder / "output").read_text()


def shown(folder: Path, name: str) -> str:
    found = re.search(rf"export {name}=(\S+)", output(folder))
    assert found
    return found.group(1)


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def processes_below(folder: Path) -> list[str]:
    """The command lines of all processes that work in the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_shows_the_ten_events_arrive_runs_on_and_leaves_only_data(
    folder: Path, start: Start, end: signal.Signals
) -> None:
    run = start()
    wait_until(lambda: "Ctrl-C ends it" in output(folder) or run.poll() is not None)
    tracker = shown(folder, "INSEND_TRACKER_URL")
    with urllib.request.urlopen(tracker.replace("watch/event", "received")) as answer:  # noqa: S310 - our own sandbox
        received = json.load(answer)
    assert [event["type"] for event in received["requests"]] == [example["type"] for example in examples()]
    assert "accepted 10, delivered 10, waiting 0, dead 0" in output(folder)
    run.send_signal(end)
    assert run.wait(PATIENCE_SECONDS) == 0
    assert "Traceback" not in output(folder)
    wait_until(lambda: not processes_below(folder))
    ports = [int(re.findall(r":(\d+)/", url)[0]) for url in (tracker, shown(folder, "INSEND_REDIS_URL"))]
    assert not any(map(listening, ports))
    assert sorted(path.name for path in (folder / "var").iterdir()) == ["lock", "redis", "spool"]


def test_what_was_accepted_is_there_the_next_time(folder: Path, start: Start) -> None:
    for total in (10, 20):
        run = start()
        wait_until(lambda: "Ctrl-C ends it" in output(folder))
        assert f"accepted {total}, delivered {total}, waiting 0" in output(folder)
        run.terminate()
        run.wait()


def test_a_second_one_in_the_same_folder_says_so_and_harms_nothing(folder: Path, start: Start) -> None:
    run = start()
    wait_until((folder / "var" / "redis" / "appendonly.aof").exists)
    second = subprocess.run(COMMAND, cwd=folder, capture_output=True, text=True, check=False)
    assert (second.returncode, run.poll()) == (1, None)
    assert "running in this folder already" in second.stdout


def test_a_redis_of_the_shells_own_is_not_drained_into_the_sandbox(
    folder: Path, start: Start, redis_url: str, namespace: str, outbox: Outbox
) -> None:
    outbox.append(Lane("app", "v", "1"), new_id(), b"{}")
    run = start(INSEND_REDIS_URL=redis_url, INSEND_NAMESPACE=namespace)
    assert run.wait(PATIENCE_SECONDS) == 1
    assert "INSEND_REDIS_URL is set in this shell" in output(folder)
    assert read_status(outbox).waiting == 1


def test_a_redis_of_the_shells_own_that_is_not_there_is_said_before_anything_starts(folder: Path, start: Start) -> None:
    given = {"INSEND_REDIS_URL": "redis://127.0.0.1:1/0", "INSEND_APP_KEY": "mine", "INSEND_DOMAIN": "shop.example.com"}
    assert start(**given).wait(PATIENCE_SECONDS) == 1
    said = " ".join(output(folder).split())
    assert "cannot be used: Redis cannot be reached" in said
    assert "unset INSEND_REDIS_URL INSEND_APP_KEY INSEND_DOMAIN" in said
    assert [path.name for path in (folder / "var").iterdir()] == ["lock"]


def test_the_examples_are_not_sent_to_a_real_account(folder: Path, start: Start) -> None:
    run = start(INSEND_APP_KEY="mine", INSEND_DOMAIN="shop.example.com")
    wait_until(lambda: "Ctrl-C ends it" in output(folder) or run.poll() is not None)
    assert "no examples are sent" in output(folder)
    with connect(shown(folder, "INSEND_REDIS_URL")) as client:
        assert read_status(Outbox(client)).accepted == 0


def test_nothing_is_left_when_nobody_reads_its_output_any_more(folder: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("INSEND_")}
    run = subprocess.Popen(COMMAND, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert run.stdout is not None
    run.stdout.readline()
    run.stdout.close()
    run.wait(PATIENCE_SECONDS)
    wait_until(lambda: not processes_below(folder))


def test_redis_does_not_outlive_a_killed_run(folder: Path, start: Start) -> None:
    run = start()
    wait_until((folder / "var" / "redis" / "appendonly.aof").exists)
    run.kill()
    run.wait()
    wait_until(lambda: not any("redis-server" in line for line in processes_below(folder)))
    wait_until(lambda: not killed_below(folder))  # the others are honcho's, which cannot know


def killed_below(folder: Path) -> list[int]:
    """Kill the processes that work in the folder; those that there were."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink().is_relative_to(folder):
                os.kill(int(process.name), signal.SIGKILL)
                found.append(int(process.name))
    return found
