"""Every command of docs/cli.md is run, against an outbox that has what it speaks of."""

from __future__ import annotations

import json
import re
import shlex
import signal
from pathlib import Path

import pytest
from command_line import CommandLine, a_worker, alive, letter, put, settle
from waiting import PATIENCE_SECONDS, wait_until

from insend_relay.console.sandbox.sandbox import Sandbox
from insend_relay.operations.dead import DeadLetters
from insend_relay.operations.replay import Replay
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.store import Outbox

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
COMMANDS = re.findall(r"^\$ insend (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
UNTIL_STOPPED = ("worker", "sandbox", "status --watch")  # these have tests of their own
VISITOR = Lane("shop", "v", "42")


@pytest.mark.parametrize("command", [line for line in COMMANDS if not line.startswith(UNTIL_STOPPED)])
def test_the_command_works_as_documented(
    insend: CommandLine,
    outbox: Outbox,
    redis_url: str,
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "order.json").write_text('{"order_id": "7", "revenue": 99.90}')
    (tmp_path / "visitor.json").write_text('{"email": "zoe@example.com"}')
    (tmp_path / "events.ndjson").write_text('{"type": "custom", "visitor_uid": "42", "properties": {"key": "a"}}\n')
    insend.settings["INSEND_SPOOL"] = str(tmp_path / "spool.db")
    event = {"type": "custom", "domain": "shop.example.com", "visitor_uid": "42", "properties": {"key": "a"}}
    (tmp_path / "event.json").write_text(json.dumps(event))
    dead = letter(outbox, VISITOR)
    line = DeadLetters(outbox).get(dead).as_dict()
    (tmp_path / "corrected.ndjson").write_text(json.dumps({**line, "payload": event}) + "\n")
    run = Replay.start(outbox)
    alive(outbox)
    if command.startswith("replay"):
        with a_worker(outbox, redis_url, settle):
            result = insend(*shlex.split(command.replace("RUN", run.id)))
    else:
        put(outbox, VISITOR)
        result = insend(*shlex.split(command.replace("ID", str(dead))))
    # The tests' Redis syncs nothing, and no worker runs here: both are findings.
    findings = {0, 1} if command.startswith(("doctor", "health")) else {0}
    assert result.exit_code in findings, result.output
    assert "usage" not in result.output.lower()


def test_the_page_explains_every_number_of_the_audit(insend: CommandLine) -> None:
    section = PAGE.read_text(encoding="utf-8").partition("$ insend audit --json")[2].partition("$ insend health")[0]
    assert [name for name in insend.json("audit")["counts"] if f"`{name}`" not in section] == []


def test_the_page_speaks_of_every_command(insend: CommandLine) -> None:
    shown = re.findall(r"^  (\w+)  +[A-Z]", insend("--help").stdout, re.MULTILINE)
    assert {line.split()[0] for line in COMMANDS} == set(shown)


@pytest.mark.parametrize(
    ("command", "pool"),
    list(zip((line for line in COMMANDS if line.startswith("worker")), ("threads", "gevent"), strict=True)),
)
def test_the_worker_delivers_as_documented_and_ends_on_sigterm(insend: CommandLine, command: str, pool: str) -> None:
    with (
        Sandbox() as tracker,
        insend.started(
            *shlex.split(command), INSEND_POOL=pool, INSEND_TRACKER_URL=tracker.url, INSEND_STOP_SECONDS="100"
        ) as worker,
    ):
        insend("send", "custom", "--visitor-uid", "42", "--properties", '{"key": "a"}')
        wait_until(lambda: tracker.received or worker.poll() is not None)
        assert [event.visitor_uid for event in tracker.received] == ["42"]
        worker.send_signal(signal.SIGTERM)
        said, complaints = worker.communicate(timeout=PATIENCE_SECONDS)
    assert worker.returncode == 0, said + complaints
