"""Programs that some tests need and PyPI does not have: without one its tests skip, and in CI they fail."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

TOOLS = {  # a tool: the names that its program goes by, and what a missing one means
    "chromium": (
        ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
        "the example shops are not clicked through; install it: apt-get install chromium",
    ),
    "systemd-analyze": (
        ("systemd-analyze",),
        "the units in deploy/ are not checked; install it: apt-get install systemd",
    ),
}


def needs(tool: str) -> str:
    """The path of a tool's program.

    Args:
        tool: A name of ``TOOLS``.

    Raises:
        pytest.skip.Exception: The tool is not installed here.
        pytest.fail.Exception: The same in CI (CI=true), where every test has to run.
    """
    programs, without = TOOLS[tool]
    path = next(filter(None, map(shutil.which, programs)), None)
    return path or missing(f"no {tool} on this machine: {without}")


def missing(reason: str) -> NoReturn:
    """Skip the test, or fail it in CI, because something is not on this machine."""
    if os.environ.get("CI", "").lower() in {"", "0", "false"}:
        pytest.skip(reason)
    pytest.fail(reason)
