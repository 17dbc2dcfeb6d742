"""``flask insend``: the ``insend`` command by the application's settings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from command_line import a_worker, letter, settle
from flask import Flask
from flask_account import account
from waiting import PATIENCE_SECONDS, wait_until

from insend_relay.console.sandbox.sandbox import Sandbox
from insend_relay.outbox.store import Outbox
from insend_relay.producers import InSend
from insend_relay.producers.flask import FlaskInSend

SHOP = """
import json
from flask import Flask
from insend_relay.producers.flask import FlaskInSend

insend = FlaskInSend()

def create_app():
    app = Flask(__name__)
    app.config.from_file("config.json", load=json.load)
    insend.init_app(app)
    return app
"""


@pytest.fixture
def config(redis_url: str, namespace: str) -> dict[str, Any]:
    """The settings of a shop, which its environment does not say."""
    return account(redis_url, namespace)


@pytest.fixture
def folder(tmp_path: Path, config: dict[str, Any]) -> Path:
    """A folder with that shop."""
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def run(config: dict[str, Any], *arguments: str) -> Result:
    """``flask insend`` in this process."""
    app = Flask(__name__)
    app.config.from_mapping(config)
    FlaskInSend(app)
    before = dict(os.environ)
    result: Result = app.test_cli_runner().invoke(args=["insend", *arguments])
    assert dict(os.environ) == before
    return result


def command(*arguments: str) -> list[str]:
    """A command line of ``flask insend``."""
    return [sys.executable, "-m", "flask", "--app", "shop", "insend", *arguments]


def flask(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``flask insend`` as a process of its own."""
    return subprocess.run(
        command(*arguments), cwd=folder, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )


def test_status_is_that_of_the_applications_relay(config: dict[str, Any], outbox: Outbox) -> None:
    letter(outbox)
    result = run(config, "status", "--json")
    assert (result.exit_code, json.loads(result.stdout)["dead"]) == (0, 1)


def test_replay_sends_dead_letters_again(config: dict[str, Any], outbox: Outbox) -> None:
    letter(outbox)
    with a_worker(outbox, config["INSEND_REDIS_URL"], settle):
        result = run(config, "replay", "--type", "purchase", "--yes")
    assert result.exit_code == 0, result.output
    assert "1 letter of 1 sent again: 1 delivered" in result.stdout


def test_audit_finds_what_does_not_balance(config: dict[str, Any], outbox: Outbox) -> None:
    assert run(config, "audit").exit_code == 0
    letter(outbox)
    outbox.read("HINCRBY", outbox.keys.ledger, "accepted", 1)
    assert run(config, "audit").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--help"], 0, "insend [OPTIONS] COMMAND"),
        (["status", "--help"], 0, "insend status [OPTIONS]"),
        (["stauts"], 2, "Did you mean 'status'?"),
        (["status", "--no-such-option"], 2, "No such option"),
    ],
)
def test_its_texts_and_exit_codes_are_those_of_insend(
    config: dict[str, Any], arguments: list[str], code: int, words: str
) -> None:
    result = run(config, *arguments)
    assert result.exit_code == code
    assert words in result.output


def test_a_redis_that_is_away_is_exit_code_3(config: dict[str, Any]) -> None:
    result = run(config | {"INSEND_REDIS_URL": "redis://127.0.0.1:1"}, "status")
    assert result.exit_code == 3
    assert "Is Redis running" in result.stderr


def test_a_setting_that_went_wrong_later_is_exit_code_2(config: dict[str, Any]) -> None:
    app = Flask(__name__)
    app.config.from_mapping(config)
    FlaskInSend(app)
    app.config["INSEND_LEASE_SECONDS"] = "soon"
    result = app.test_cli_runner().invoke(args=["insend", "status"])
    assert result.exit_code == 2
    assert "INSEND_LEASE_SECONDS" in result.stderr


def test_the_flask_command_runs_it(folder: Path, outbox: Outbox) -> None:
    letter(outbox)
    done = flask(folder, "status", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["dead"] == 1


def test_the_flask_command_lists_it(folder: Path) -> None:
    listing = [sys.executable, "-m", "flask", "--app", "shop", "--help"]
    done = subprocess.run(listing, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert "Insend Relay: status, replay, audit and more." in done.stdout


def test_a_worker_becomes_the_process_and_has_the_applications_settings(
    folder: Path, config: dict[str, Any], insend: InSend
) -> None:
    insend.link(visitor_uid=42)
    with Sandbox() as tracker, (folder / "log").open("wb") as log:
        config |= {"INSEND_TRACKER_URL": tracker.url, "INSEND_POOL": "threads", "INSEND_STOP_SECONDS": 100}
        (folder / "config.json").write_text(json.dumps(config))
        with subprocess.Popen(command("worker"), cwd=folder, stdout=log, stderr=log) as worker:
            try:
                wait_until(lambda: tracker.received or worker.poll() is not None)
                worker.send_signal(signal.SIGTERM)
                assert worker.wait(PATIENCE_SECONDS) == 0, (folder / "log").read_text()
            finally:
                worker.kill()
        assert [event.visitor_uid for event in tracker.received] == ["42"]


def test_flask_is_no_longer_loaded_in_a_worker(folder: Path) -> None:
    done = flask(folder, "worker", "--help")
    assert done.stdout.startswith("Usage: insend worker ")  # not "Usage: flask insend worker"
