"""``manage.py insend_status`` and its like: the ``insend`` command with Django's settings, as it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import django_site  # noqa: F401 - it configures Django, so that this file runs alone too
import pytest
from command_line import letter
from counting import counts
from django.core.management import CommandError, ManagementUtility, call_command, get_commands
from django.test import override_settings
from waiting import PATIENCE_SECONDS, wait_until

from insend_relay.outbox.store import Outbox

MANAGE = """
import sys
import django_settings
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", *sys.argv[1:]])
"""
SETTINGS = """
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "django_settings")
SECRET_KEY = "for tests"
INSTALLED_APPS = ["insend_relay.producers.django"]
MIDDLEWARE = []
INSEND = {insend!r}
"""
Manage = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def account(redis_url: str, namespace: str) -> dict[str, Any]:
    """What ``INSEND`` says."""
    return {"APP_KEY": "shop", "DOMAIN": "shop.example.com", "REDIS_URL": redis_url, "NAMESPACE": namespace}


@pytest.fixture
def project(account: dict[str, Any], tmp_path: Path) -> Path:
    """The folder of a project."""
    (tmp_path / "django_settings.py").write_text(SETTINGS.format(insend=account))
    (tmp_path / "manage.py").write_text(MANAGE)
    return tmp_path


@pytest.fixture
def manage(project: Path) -> Manage:
    """Run ``manage.py``, with no terminal."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", "manage.py", *arguments]
        return subprocess.run(
            command, cwd=project, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )

    return run


@pytest.fixture
def called(account: dict[str, Any]) -> Iterator[Callable[..., str]]:
    """``call_command`` in this process; what it prints."""

    def run(*arguments: str) -> str:
        out = StringIO()
        call_command(*arguments, stdout=out)
        return out.getvalue()

    with override_settings(INSEND=account):
        yield run


def test_all_four_are_there() -> None:
    ours = {name for name, app in get_commands().items() if app == "insend_relay.producers.django"}
    assert ours == {"insend_status", "insend_audit", "insend_replay", "insend_worker"}


def test_arguments_and_output_are_passed_through(manage: Manage, outbox: Outbox) -> None:
    letter(outbox)
    status = manage("insend_status", "--json")
    assert (status.returncode, status.stderr) == (0, "")
    assert json.loads(status.stdout)["dead"] == 1


def test_exit_codes_are_kept(manage: Manage, outbox: Outbox) -> None:
    letter(outbox)
    outbox.read("HSET", outbox.keys.ledger, "accepted", 99)
    audit = manage("insend_audit")
    assert audit.returncode == 1
    assert "THE BOOKS DO NOT BALANCE" in audit.stdout


def test_a_mistake_of_the_user_is_a_sentence(manage: Manage, outbox: Outbox) -> None:
    letter(outbox)
    for arguments in (["insend_status", "--jsn"], ["insend_replay"], ["insend_worker", "--pool=solo"]):
        done = manage(*arguments)
        assert done.returncode == 2, arguments
        assert done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "insend"),
    [("insend_status", {"DOMIAN": "x"}), ("insend_status", {"POOL": "x"}), ("insend_worker", ["x"])],
)
def test_a_wrong_setting_is_a_sentence(insend: object, command: str, manage: Manage, project: Path) -> None:
    (project / "django_settings.py").write_text(SETTINGS.format(insend=insend))
    done = manage(command)
    assert done.returncode == 2
    assert "insend: these settings are wrong:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_redis_that_is_away_is_exit_code_3(manage: Manage, project: Path) -> None:
    (project / "django_settings.py").write_text(SETTINGS.format(insend={"REDIS_URL": "redis://127.0.0.1:1/0"}))
    done = manage("insend_status")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr


def test_djangos_own_two_options_are_not_passed_on(manage: Manage, outbox: Outbox) -> None:
    outbox.read("PING")
    done = manage("insend_status", "--settings=django_settings", "--pythonpath", ".", "--json")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["status", "audit", "replay", "worker"])
def test_help_is_insends(name: str, manage: Manage, capsys: pytest.CaptureFixture[str]) -> None:
    done = manage(f"insend_{name}", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Usage: insend {name}" in done.stdout
    ManagementUtility(["manage.py", "help"]).fetch_command(f"insend_{name}").print_help("manage.py", f"insend_{name}")
    assert f"Usage: insend {name}" in capsys.readouterr().out


def test_the_worker_runs_by_djangos_settings_until_it_is_told_to_stop(project: Path, outbox: Outbox) -> None:
    letter(outbox)
    log = project / "log"
    with (project / "django_settings.py").open("a") as settings:
        settings.write("INSEND |= {'POOL': 'threads', 'STOP_SECONDS': 100}")
    code = interrupted(project, log, "insend_worker", when=lambda: "ready" in log.read_text())
    assert code == 0, log.read_text()
    assert "Traceback" not in log.read_text()


def test_ctrl_c_ends_a_replay_cleanly(project: Path, outbox: Outbox) -> None:
    letter(outbox)
    log = project / "log"
    sent = lambda: counts(outbox)["replayed"] == 1  # noqa: E731 - a word for what is waited for
    code = interrupted(project, log, "insend_replay", "--yes", when=sent)  # no worker: it waits for the answer
    assert code == 130, log.read_text()
    assert "1 under way" in log.read_text()
    assert "Traceback" not in log.read_text()


def interrupted(project: Path, log: Path, *arguments: str, when: Callable[[], bool]) -> int:
    """Run ``manage.py`` until that is so, and press Ctrl-C; the exit code."""
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "manage.py", *arguments], cwd=project, stdout=output, stderr=output)
    try:
        wait_until(lambda: when() or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        return process.wait(PATIENCE_SECONDS)
    finally:
        process.kill()
        process.wait()


def test_a_program_calls_them_in_its_own_process(called: Callable[..., str], outbox: Outbox) -> None:
    letter(outbox)
    before = dict(os.environ)
    assert json.loads(called("insend_status", "--json"))["dead"] == 1
    assert json.loads(called("insend_audit", "--json"))["balanced"]
    assert "purchase" in called("insend_replay", "--type", "link", "--yes")  # it names what there is instead
    assert dict(os.environ) == before


def test_to_a_program_an_exit_code_is_a_command_error(
    called: Callable[..., str], outbox: Outbox, capsys: pytest.CaptureFixture[str]
) -> None:
    letter(outbox)
    with pytest.raises(CommandError, match="insend replay ended with exit code 2") as raised:
        called("insend_replay")
    assert raised.value.returncode == 2
    assert "add --yes" in capsys.readouterr().err
    with override_settings(INSEND={"DOMIAN": "x"}), pytest.raises(CommandError, match="exit code 2"):
        called("insend_status")
    with pytest.raises(CommandError, match="a process of its own"):
        called("insend_worker")
