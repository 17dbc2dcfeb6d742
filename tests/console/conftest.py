"""The ``insend`` command for tests: in this process where that suffices, and as a process of its own."""

from __future__ import annotations

import pytest
from command_line import CommandLine


@pytest.fixture
def insend(redis_url: str, namespace: str) -> CommandLine:
    """The command with the test's Redis and namespace."""
    return CommandLine(redis_url, namespace)
