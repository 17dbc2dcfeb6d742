"""``insend doctor``: a line for each thing, exit code 1 for what may lose events."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from command_line import ALICE, CommandLine, event

from insend_relay.console.sandbox import Sandbox
from insend_relay.outbox.entry import Entry
from insend_relay.outbox.record import new_id
from insend_relay.outbox.spool import Spool


def finding(insend: CommandLine, about: str, **settings: str) -> str:
    """What it says about one thing."""
    insend.settings |= settings
    return next(f"{each['state']}: {each['text']}" for each in insend.json("doctor") if each["about"] == about)


def test_each_line_says_how_it_stands(insend: CommandLine) -> None:
    with Sandbox() as tracker:
        result = insend("doctor", INSEND_TRACKER_URL=tracker.url)
    lines = result.stdout.splitlines()
    assert {line.split()[0] for line in lines} <= {"good", "look", "BAD", "cannot"}
    assert any(line.startswith("BAD        persistence") for line in lines), "the tests' Redis syncs nothing"
    assert any(line.startswith(f"good       tracker      127.0.0.1:{tracker.port} can be reached") for line in lines)
    assert result.exit_code == 1


def test_a_tracker_that_cannot_be_reached_is_worth_a_look(insend: CommandLine) -> None:
    assert "127.0.0.1:1 cannot be reached" in finding(insend, "tracker", INSEND_TRACKER_URL="http://127.0.0.1:1/")
    nowhere = finding(insend, "tracker", INSEND_TRACKER_URL="https://nobody.invalid/")
    assert nowhere.startswith("look: nobody.invalid:443 cannot be reached")


def test_a_misspelt_variable_is_bad_and_one_of_no_known_name_is_worth_a_look(insend: CommandLine) -> None:
    assert finding(insend, "variables").startswith("good: ")
    assert finding(insend, "variables", INSEND_XYZ="1").startswith("look: INSEND_XYZ is not a setting")
    misspelt = finding(insend, "variables", INSEND_XYZ="", INSEND_SPOL="/var/lib/spool.db")
    assert misspelt.startswith("bad: INSEND_SPOL is not a setting and has no effect; did you mean INSEND_SPOOL?")


def test_behind_a_proxy_the_tracker_cannot_be_seen(insend: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    assert finding(insend, "tracker").startswith("unseen: tracker.convead.io:443 is reached through the proxy")


def test_the_spool_is_looked_at(insend: CommandLine, tmp_path: Path, namespace: str) -> None:
    assert finding(insend, "spool").startswith("look: none")
    path = tmp_path / "folder" / "spool.db"
    assert finding(insend, "spool", INSEND_SPOOL=str(path)) == f"good: {path} can be made"
    assert not path.parent.exists()
    spool = Spool(path, namespace=namespace, most_bytes=10**8)
    spool.keep([(Entry(ALICE, new_id(), event()), "")], deadline=time.monotonic() + 60)
    assert finding(insend, "spool").startswith("look: 1 events wait")
    spool.drop(1, deadline=time.monotonic() + 60)
    assert finding(insend, "spool") == f"good: {path} is writable and empty"
    path.chmod(0o644)
    assert "chmod 600" in finding(insend, "spool")


def test_a_spool_that_cannot_be_used_is_bad(insend: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("dear diary " * 100)
    assert finding(insend, "spool", INSEND_SPOOL=str(tmp_path / "file")).startswith("bad: the spool cannot be opened")
    assert finding(insend, "spool", INSEND_SPOOL=str(tmp_path / "file" / "spool.db")).startswith("bad: nothing can be")


def test_without_redis_it_says_that_and_the_rest_all_the_same(insend: CommandLine) -> None:
    result = insend("doctor", INSEND_REDIS_URL="redis://127.0.0.1:1/0")
    assert result.exit_code == 3
    assert "Is Redis running" in result.stderr
    assert "spool        none" in result.stdout
