"""Signals and coverage: coverage holds a lock, which is not re-entrant, in Python code of its own.

A signal handler that runs there and raises an exception leaves that lock taken, and one that runs traced code may wait
for it: the process then hangs for good. So a program that gets signals at random runs without coverage, and a handler
inside a test leaves coverage's code alone.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import FrameType

import coverage

_COVERAGE = str(Path(coverage.__file__).parent)


def without_coverage() -> dict[str, str]:
    """The environment of a program that is not to be covered."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS")}


def in_coverage(frame: FrameType | None) -> bool:
    """Whether a signal came in the middle of coverage's own code; a handler has to wait for a later moment then."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(_COVERAGE):
            return True
        frame = frame.f_back
    return False
