"""How many files a process may have open: raised as far as it takes, and said when that is not enough."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.worker import descriptors
from insend_relay.worker.delivery import FILES, Delivery
from insend_relay.worker.stop import Stop

RAISE = """
import resource, sys
soft, hard, number = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from insend_relay.worker import descriptors
print(descriptors.enough_for(number), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "number", "printed"),
    [
        (256, 1024, 200, "200 256 1024"),
        (256, 1024, 256, "256 256 1024"),
        (256, 1024, 600, "600 600 1024"),
        (256, 1024, 5000, "1024 1024 1024"),
    ],
)
def test_the_soft_limit_is_raised_as_far_as_it_takes(soft: int, hard: int, number: int, printed: str) -> None:
    words = [sys.executable, "-c", RAISE, str(soft), str(hard), str(number)]
    assert subprocess.check_output(words, text=True).strip() == printed


def test_without_a_limit_there_is_nothing_to_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: pytest.fail("nothing is to be changed"))
    assert descriptors.enough_for(10**9) == 10**9


def test_a_system_that_does_not_let_it_be_raised_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_: object) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", forbid)
    assert descriptors.enough_for(5000) == 256


def test_a_process_that_may_open_too_few_says_so(
    outbox: Outbox, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(descriptors, "enough_for", lambda _: FILES + 10)
    Delivery(outbox, settings, Stop(1))
    assert "posts 10 events at a time, not INSEND_CONCURRENCY=16" in caplog.text
