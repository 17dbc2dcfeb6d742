"""The examples in docs/flask.md run as they stand there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask_account import account
from waiting import PATIENCE_SECONDS

from insend_relay.outbox.record import Record
from insend_relay.producers.testing import RecordedEvents

DOC = (Path(__file__).parents[2] / "docs" / "flask.md").read_text(encoding="utf-8")
CODE = re.findall(r"^```python\n(.*?)^```$", DOC, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^\$ (.*)$", DOC, re.MULTILINE)


@pytest.fixture
def names(redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the examples know, one after the other."""
    monkeypatch.setenv("INSEND_NAMESPACE", namespace)
    monkeypatch.setenv("INSEND_ENQUEUE_TIMEOUT_MS", "10000")
    names: dict[str, Any] = {"__name__": __name__}
    for example in CODE:
        exec(example.replace("redis://127.0.0.1:6379/0", redis_url).replace("the account's key", "test-app-key"), names)  # noqa: S102 - our own documentation
    return names


def test_the_examples_send_what_they_say(names: dict[str, Any], kept: Callable[[str], list[Record]]) -> None:
    client = names["app"].test_client()
    client.set_cookie("convead_guest_uid", "guest-1")
    client.get("/p/7")
    client.post("/login/anna")
    names["insend"].close()
    assert [len(kept(lane)) for lane in ("v/42", "g/guest-1", "v/anna")] == [1, 1, 1]


def test_the_example_of_a_test_passes(names: dict[str, Any], insend_events: RecordedEvents) -> None:
    names["insend"].close()
    names["test_a_login_is_reported"](insend_events)


@pytest.mark.usefixtures("outbox")
def test_the_commands_work(redis_url: str, namespace: str, tmp_path: Path) -> None:
    config = account(redis_url, namespace)
    (tmp_path / "shop.py").write_text(f"{CODE[0]}\n\napp = create_app(**{config!r})\n")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    assert len(COMMANDS) == 3
    for command in COMMANDS:
        ran = subprocess.run(
            shlex.split(command),
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert ran.returncode == 0, f"{command}: {ran.stdout}{ran.stderr}"
