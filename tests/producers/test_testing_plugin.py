"""pytest finds the fixture ``insend_events`` in any project where insend-relay is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from waiting import PATIENCE_SECONDS

SHOP = """
from insend_relay.producers import InSend

insend = InSend(enabled=False)


def buy():
    insend.purchase(order_id=1042, revenue=5, visitor_uid="42")
"""
ONE_LINE = """
import shop


def test_it(insend_events):
    {line}
"""


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)


def project(folder: Path, line: str) -> None:
    (folder / "shop.py").write_text(SHOP)
    (folder / "test_shop.py").write_text(ONE_LINE.format(line=line))


def test_a_fresh_project_has_it_without_a_word_of_configuration(tmp_path: Path) -> None:
    project(tmp_path, 'shop.buy(); assert insend_events.of("purchase")[0].properties["order_id"] == "1042"')
    done = run_pytest(tmp_path)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_a_failing_test_shows_what_was_sent(tmp_path: Path) -> None:
    project(tmp_path, "shop.buy(); assert len(insend_events) == 0")
    done = run_pytest(tmp_path)
    assert done.returncode == 1
    assert "len(<sent: purchase; not sent: nothing>)" in done.stdout


def test_the_fixture_explains_itself(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, "--fixtures")
    assert "insend_events" in done.stdout
    assert "The events that the application under test sends" in done.stdout


def test_a_test_run_that_sends_nothing_does_not_load_the_recorder() -> None:
    script = "import sys, insend_relay.producers.pytest_plugin; print('insend_relay.producers.testing' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert done.stdout.strip() == "False"
