"""How ``insend worker`` ends: 0 only when it was told to stop; what only a person can repair is a sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import PROGRAM, CommandLine
from waiting import PATIENCE_SECONDS, wait_until


def test_a_pid_file_that_is_taken_is_celery_s_exit_code(insend: CommandLine, tmp_path: Path) -> None:
    taken = tmp_path / "worker.pid"
    taken.write_text(f"{os.getpid()}\n")
    result = insend.process("worker", f"--pidfile={taken}")
    assert result.returncode == 73
    assert "already exists" in result.stdout + result.stderr


@pytest.mark.parametrize(
    "broker",
    [
        "nosuch://127.0.0.1/1",
        "zookeeper://127.0.0.1/1",  # its library is not installed
        "redis://127.0.0.1:1/name",
        "amqp://shop:s3c#r3t@127.0.0.1:1//",
    ],
)
def test_a_broker_that_can_never_be_used_is_a_sentence_and_exit_code_2(insend: CommandLine, broker: str) -> None:
    result = insend.process("worker", INSEND_BROKER_URL=broker)
    assert result.returncode == 2
    assert "INSEND_BROKER_URL: " in result.stderr
    assert "Traceback" not in result.stderr
    assert not any(part in result.stderr for part in ("s3c", "r3t"))


def test_a_machine_without_shared_memory_is_a_sentence_and_exit_code_2(insend: CommandLine) -> None:
    """A limit of 0 bytes for new files is to the worker what a missing or read-only /dev/shm is."""
    environment = {name: value for name, value in insend.environment().items() if not name.startswith("COVERAGE")}
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); {PROGRAM}"
    result = subprocess.run(
        [sys.executable, "-c", limited, "worker"],
        env=environment,  # without coverage, which needs a file
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert result.returncode == 2
    assert "INSEND_POOL: prefork needs a writable /dev/shm" in result.stderr
    assert "Traceback" not in result.stderr


def test_options_that_celery_refuses_are_a_sentence_and_exit_code_2(insend: CommandLine) -> None:
    result = insend.process("worker", "--queues=nosuch")
    assert result.returncode == 2
    assert "Celery refuses its options" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unrecoverable_error_of_celery_s_is_exit_code_1(insend: CommandLine, tmp_path: Path) -> None:
    result = insend.process("worker", f"--pidfile={tmp_path}/nowhere/worker.pid")
    assert result.returncode == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGQUIT, 1)])
def test_a_worker_that_is_told_to_stop_ends_with_0_and_one_that_is_cut_off_with_1(
    insend: CommandLine, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    log = tmp_path / "log"
    with insend.started("worker", f"--logfile={log}", INSEND_PROCESSES="1") as process:
        wait_until(lambda: process.poll() is not None or (log.exists() and " ready." in log.read_text()))
        process.send_signal(number)
        assert process.wait(PATIENCE_SECONDS) == code
