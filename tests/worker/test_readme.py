"""What the README tells people to type works as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from delivering import APP, Append, drained
from waiting import wait_until

from insend_relay.console.sandbox.sandbox import Sandbox
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ (.*)$", README, re.MULTILINE)
PYTHON = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
Delivering = Callable[..., Any]


@pytest.fixture
def environ(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a shop's server."""
    given = {
        "INSEND_APP_KEY": APP,
        "INSEND_DOMAIN": "shop.example.com",
        "INSEND_REDIS_URL": settings.redis_url,
        "INSEND_NAMESPACE": settings.namespace,
        "INSEND_ENQUEUE_TIMEOUT_MS": "60000",  # a slow machine must not decide
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return {**os.environ, **given}


def test_the_readme_has_commands_and_code() -> None:
    assert len(COMMANDS) >= 6
    assert len(PYTHON) == 4  # plain, and one for each framework (tests/producers/test_readme_bindings.py)


def test_every_command_of_the_readme_works(
    environ: dict[str, str], append: Append, delivering: Delivering, outbox: Outbox, sandbox: Sandbox
) -> None:
    append("7")
    with delivering(rejected_attempts=1):
        drained(outbox)
        sandbox.misbehave(status=400, times=1)
        append("42", type="purchase", order_id="1", revenue=9.99)
        drained(outbox)
        sandbox.misbehave(status=500, visitor_uid="43")
        for command in COMMANDS:
            ran = subprocess.run(shlex.split(command), env=environ, capture_output=True, text=True, check=False)
            assert ran.returncode == 0, f"{command}: {ran.stdout}{ran.stderr}"


def test_the_ten_lines_send_a_purchase(
    environ: dict[str, str],  # noqa: ARG001 - it sets the environment
    delivering: Delivering,
    outbox: Outbox,
    sandbox: Sandbox,
) -> None:
    shop: dict[str, Any] = {}
    exec(PYTHON[0], shop)  # noqa: S102 - our own README
    line = SimpleNamespace(product=7, count=1, price=99.9)
    order = SimpleNamespace(id=1042, total=99.9, lines=[line])
    try:
        shop["thank_you_page"](order, SimpleNamespace(id=42, email="anna@example.com"))
        with delivering():
            drained(outbox)
        event = wait_until(lambda: sandbox.received)[0]
    finally:
        shop["insend"].close()
    assert (event.visitor_uid, event.type, event.properties["order_id"]) == ("42", "purchase", "1042")


def test_every_line_of_what_can_be_lost_names_tests_that_there_are() -> None:
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`(test_\w+)`", page)
    there = " ".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "tests").rglob("test_*.py"))
    assert len(named) > 10
    assert [name for name in named if f"def {name}(" not in there] == []
