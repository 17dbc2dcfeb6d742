"""Waiting for what other processes do, without fixed sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE_SECONDS = 180.0  # every wait of a test ends after this: on a loaded machine nothing takes so long but a hang


def wait_until(condition: Callable[[], T], seconds: float = PATIENCE_SECONDS) -> T:
    """The first truthy answer of ``condition``; fails after ``seconds`` without one."""
    give_up = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < give_up, f"not within {seconds:g} s; the last answer was {answer!r}"
        time.sleep(0.005)
