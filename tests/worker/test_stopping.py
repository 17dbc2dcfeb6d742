"""A worker that does not stop in time ends itself, and says what held it up."""

from __future__ import annotations

import subprocess
import sys

import pytest

from insend_relay.worker.runtime import EX_SOFTWARE

HELD_UP = """
{first}
import logging, os, threading, time
from celery import Celery
from insend_relay.outbox.settings import Settings
from insend_relay.worker import runtime

logging.basicConfig(format="%(levelname)s %(message)s")
vars(runtime)["LAST_SECONDS"] = vars(runtime)["LOOK_SECONDS"] = 0.1

def waits_for_ever():
    threading.Event().wait()

worker = runtime.Runtime(Celery(), Settings(redis_url="redis://127.0.0.1:1/0", stop_seconds=0.1))
threading.Thread(target=worker.watch_stop, daemon=True).start()
worker.stop()
{before}
waits_for_ever()
"""
PATCHED = "from gevent import monkey; monkey.patch_all()"
LOG_HANGS = "logging.getLogger().handlers[0].lock.acquire()"


def leave(*, first: str = "", before: str = "") -> subprocess.CompletedProcess[str]:
    """Run a worker whose main thread waits for ever."""
    command = [sys.executable, "-c", HELD_UP.replace("{first}", first).replace("{before}", before)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("first", ["", PATCHED], ids=["threads", "greenlets"])
def test_the_log_says_what_holds_up_a_worker_that_does_not_stop(first: str) -> None:
    """The exit code alone would tell an operator nothing."""
    result = leave(first=first)
    assert result.returncode == EX_SOFTWARE, result.stderr
    assert result.stderr.startswith("CRITICAL stopping took longer than 0.2 s: leaving with code 70"), result.stderr
    assert "in waits_for_ever" in result.stderr


def test_the_log_says_at_what_each_greenlet_waits() -> None:
    """Celery's waits only for its pool, which waits for one of its tasks."""
    task = "import gevent; gevent.spawn(waits_for_ever).join()"
    stacks = leave(first=PATCHED, before=task).stderr
    assert "in waits_for_ever" in stacks, stacks


def test_a_log_that_hangs_does_not_keep_it() -> None:
    """The lock of its handler may be what the worker waits for."""
    result = leave(before=LOG_HANGS)
    assert (result.returncode, result.stderr) == (EX_SOFTWARE, "")
