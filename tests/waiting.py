"""Waiting for what other processes do, without fixed sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], seconds: float = 60.0) -> T:
    """The first truthy answer of ``condition``; fails after ``seconds`` without one."""
    give_up = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < give_up, f"not within {seconds:g} s; the last answer was {answer!r}"
        time.sleep(0.005)
