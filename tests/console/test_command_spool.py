"""``insend spool`` and ``insend spool flush``, and what status says of it."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from command_line import ALICE, BOB, CommandLine, event

from insend_relay.outbox.entry import Entry
from insend_relay.outbox.record import new_id
from insend_relay.outbox.store import Outbox
from insend_relay.spool.spool import Spool


@pytest.fixture
def file(tmp_path: Path, insend: CommandLine) -> Path:
    """The spool that the command's settings name."""
    insend.settings["INSEND_SPOOL"] = str(tmp_path / "spool.db")
    return tmp_path / "spool.db"


@pytest.fixture
def spool(file: Path, namespace: str) -> Spool:
    """A spool with an event each of Alice's and Bob's."""
    spool = Spool(file, namespace=namespace, most_bytes=10**8)
    spool.keep([(Entry(lane, new_id(), event()), "") for lane in (ALICE, BOB)], deadline=time.monotonic() + 60)
    return spool


def test_an_empty_spool_is_in_order_and_looking_makes_no_file(insend: CommandLine, file: Path) -> None:
    result = insend("spool")
    assert (result.exit_code, result.stdout) == (0, f"Nothing lies in {file}.\n")
    assert not file.exists()
    assert insend.json("spool") == {"file": str(file), "events": 0, "oldest_at_ms": None, "bytes": 0, "unreadable": 0}


@pytest.mark.usefixtures("spool")
def test_what_lies_in_it_is_a_finding(insend: CommandLine, file: Path) -> None:
    result = insend("spool")
    assert result.exit_code == 1
    assert result.stdout.startswith(f"2 events in {file}, the oldest for ")
    assert "insend spool flush" in result.stdout
    assert insend("spool", "--json").exit_code == 1
    assert insend.json("status")["spooled"] == 2
    assert re.search(r"^spooled +2$", insend("status").stdout, re.MULTILINE)


def test_flush_moves_it_on(insend: CommandLine, spool: Spool, outbox: Outbox) -> None:
    result = insend("spool", "flush")
    assert (result.exit_code, result.stdout) == (0, "2 events moved on into Redis\n")
    assert int(outbox.read("HGET", outbox.keys.ledger, "accepted")) == 2
    assert (spool.look().events, insend("spool").exit_code) == (0, 0)


def test_flush_leaves_it_to_who_is_at_it(insend: CommandLine, spool: Spool) -> None:
    with spool.flushing():
        result = insend("spool", "flush")
    assert result.exit_code == 2
    assert "is moving it on right now" in result.stderr


def test_with_redis_away_flush_says_so_and_keeps_everything(insend: CommandLine, spool: Spool) -> None:
    result = insend("spool", "flush", INSEND_REDIS_URL="redis://127.0.0.1:1/0")
    assert result.exit_code == 3
    assert spool.look().events == 2


@pytest.mark.parametrize("command", [["spool"], ["spool", "flush"]])
def test_without_the_setting_it_says_which(insend: CommandLine, command: list[str]) -> None:
    result = insend(*command)
    assert result.exit_code == 2
    assert "INSEND_SPOOL is not set" in result.stderr


def test_a_file_that_is_no_spool_is_a_users_mistake(insend: CommandLine, file: Path) -> None:
    file.write_text("dear diary " * 100)
    result = insend("spool")
    assert result.exit_code == 2
    assert "not a database" in result.stderr


@pytest.mark.usefixtures("file")
def test_send_keeps_an_event_there_while_redis_is_away(insend: CommandLine) -> None:
    given = ["--visitor-uid", "42", "--properties", '{"key": "signup"}']
    result = insend("send", "custom", *given, INSEND_REDIS_URL="redis://127.0.0.1:1/0")
    assert result.exit_code == 0
    assert "kept on this machine's disk until Redis takes it" in result.stdout
    assert insend("spool", "flush").stdout == "1 event moved on into Redis\n"
