from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import redis
from attempts import pause
from command_line import ALICE, BOB, CommandLine, alive, claim, event, letter, put
from lanes import purchase
from waiting import wait_until

from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.outbox.connection import connect
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.store import Outbox

DESIGNED = {
    "accepted",
    "delivered",
    "waiting",
    "dead",
    "discarded",
    "replayed",
    "spooled",
    "duplicates_possible",
    "oldest_waiting_seconds",
    "held_lanes",
    "paused",
    "redis_headroom_bytes",
    "balanced",
}


def outage(outbox: Outbox, reason: str) -> None:
    """The tracker has been found to take nothing."""
    put(outbox, ALICE)
    held = claim(outbox)
    pause(outbox, held, reason)


def test_the_first_line_says_whether_there_is_something_to_do(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox)
    alive(outbox)
    result = insend("status")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].startswith("OK: 1 waiting")
    assert "accepted" in result.stdout


def test_a_program_gets_every_figure_of_the_design(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox)
    letter(outbox, BOB)
    found = insend.json("status")
    assert set(found) >= DESIGNED
    assert (found["accepted"], found["waiting"], found["dead"], found["balanced"]) == (2, 1, 1, True)


def test_revenue_is_shown_where_there_is_any(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox, ALICE)
    assert "revenue" not in insend("status").stdout
    put(outbox, ALICE, purchase("1234.5"))
    put(outbox, ALICE, purchase("0.00001"))
    shown = insend("status").stdout
    assert re.search(r"revenue waiting +1,234\.50 \(1 unknown\)", shown)
    assert "revenue in dead letters" not in shown
    outbox.read("HSET", outbox.keys.books_of("5"), "revenue_dead", -1)
    assert re.search(r"revenue in dead letters +more than can be counted", insend("status").stdout)


def test_types_and_apps_have_a_table_where_there_is_more_than_one(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox, ALICE, purchase("2"))
    assert "TYPE" not in insend("status").stdout
    letter(outbox, BOB, event("link"))
    shown = insend("status").stdout
    assert re.search(r"^TYPE +WAITING +DEAD LETTERS", shown, re.MULTILINE)
    assert re.search(r"^purchase +1 +0", shown, re.MULTILINE)
    assert re.search(r"^link +0 +1", shown, re.MULTILINE)
    assert "APP" not in shown
    for number in range(11):
        put(outbox, Lane(f"app-{number:02}", "v", "1"))
    shown = insend("status").stdout
    assert re.search(r"^shop +1 +1 +2\.00 +0\.00", shown, re.MULTILINE)
    assert "app-08" in shown
    assert "app-09" not in shown
    assert "the first 10 of 12 apps; --json has all" in shown


def test_the_time_that_deliveries_take_is_shown(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox)
    assert "accepted to delivered" not in insend("status").stdout
    outbox.settle(claim(outbox), lease_ms=0, post_ms=40)
    shown = insend("status").stdout
    assert re.search(r"accepted to delivered +\d+ m?s +\d+ m?s", shown)
    assert re.search(r"answer of the tracker +64 ms +64 ms", shown)


def test_calls_about_nobody_are_shown_once_there_are_any(insend: CommandLine, outbox: Outbox) -> None:
    assert "without a visitor" not in insend("status").stdout
    outbox.count("no_visitor")
    assert re.search(r"calls without a visitor, not kept +1\b", insend("status").stdout)


def test_dead_letters_and_a_pause_are_no_finding(insend: CommandLine, outbox: Outbox) -> None:
    letter(outbox)
    outbox.pause("shop")
    result = insend("status")
    assert result.exit_code == 0
    assert "PAUSED since" in result.stdout.splitlines()[0]
    assert "resumed by hand" in result.stdout


def test_books_that_do_not_balance_are_a_finding(insend: CommandLine, outbox: Outbox, client: redis.Redis) -> None:
    put(outbox)
    client.hincrby(outbox.keys.books_of("1"), "waiting", 1)
    result = insend("status")
    assert result.exit_code == 1
    assert "insend audit" in result.stdout.splitlines()[0]
    recount = insend("audit")
    assert recount.exit_code == 1
    assert "DO NOT BALANCE" in recount.stdout
    assert insend.json("audit")["balanced"] is False


def test_a_stall_is_a_finding(insend: CommandLine, outbox: Outbox, client: redis.Redis) -> None:
    put(outbox)
    client.zadd(outbox.keys.due("shop"), {str(ALICE): 1_000})
    client.zadd(outbox.keys.apps, {"shop": 1_000})
    alive(outbox)
    result = insend("status")
    assert result.exit_code == 1
    assert result.stdout.startswith("STALLED")


def test_an_audit_of_balanced_books_says_so(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox)
    result = insend("audit")
    assert result.exit_code == 0
    assert "The books balance." in result.stdout
    assert insend.json("audit")["balanced"] is True


def test_what_a_tracker_echoed_is_masked_in_the_reason_of_a_pause(insend: CommandLine, outbox: Outbox) -> None:
    outage(outbox, "answered 403: zoe@example.com may not")
    for shown in (insend("status").stdout, insend("status", "--json").stdout):
        assert "answered 403" in shown
        assert "zoe" not in shown


def test_watch_refreshes_until_ctrl_c(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox, ALICE)
    with insend.terminal("status", "--watch") as terminal:
        wait_until(lambda: "1 waiting" in terminal.shown)
        put(outbox, BOB)
        wait_until(lambda: "2 waiting" in terminal.shown)
        terminal.interrupt()
        assert terminal.ended() == 130
    assert "Traceback" not in terminal.shown


def test_watch_outlives_a_redis_that_goes_away(tmp_path: Path) -> None:
    with (
        EmbeddedRedis(tmp_path) as server,
        CommandLine(server.url, "insend").terminal("status", "--watch") as terminal,
    ):
        wait_until(lambda: "NEVER USED" in terminal.shown)
        server.kill()
        wait_until(lambda: "trying again" in terminal.shown)
        before = len(terminal.shown)
        server.start()
        wait_until(lambda: "NEVER USED" in terminal.shown[before:])
        terminal.interrupt()
        assert terminal.ended() == 130


def test_watch_needs_a_terminal_and_goes_without_json(insend: CommandLine) -> None:
    assert insend("status", "--watch").exit_code == 2
    assert insend("status", "--watch", "--json").exit_code == 2


@pytest.mark.parametrize(("settings", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colour_is_for_terminals_and_obeys_no_color(
    insend: CommandLine, outbox: Outbox, settings: dict[str, str], *, coloured: bool
) -> None:
    alive(outbox)
    with insend.terminal("status", **settings) as terminal:
        assert terminal.ended() == 0
    assert ("\x1b[1;32mOK" in terminal.shown) is coloured
    assert "\x1b" not in insend.process("status").stdout


def test_json_is_one_line_of_ascii(insend: CommandLine, outbox: Outbox) -> None:
    outage(outbox, "answered 403: нет")
    shown = insend("status", "--json").stdout
    assert shown.isascii()
    assert shown.count("\n") == 1
    assert json.loads(shown)["paused"][0]["reason"] == "answered 403: нет"


def test_a_newer_layout_is_refused(insend: CommandLine, outbox: Outbox, redis_url: str) -> None:
    with connect(redis_url) as client:
        client.set(outbox.keys.layout, 99)
    result = insend("status")
    assert result.exit_code == 3
    assert "upgrade insend-relay" in result.stderr


@pytest.mark.parametrize("name", ["x" * 300, "folder"])
def test_a_spool_that_cannot_be_used_is_a_finding_and_the_rest_is_shown(
    insend: CommandLine, outbox: Outbox, tmp_path: Path, name: str
) -> None:
    (tmp_path / "folder").mkdir()
    put(outbox, ALICE)
    alive(outbox)
    insend.settings["INSEND_SPOOL"] = str(tmp_path / name)
    said = insend("status")
    assert said.exit_code == 1
    first = said.stdout.splitlines()[0]
    assert first.startswith("SPOOL UNUSABLE: ")
    assert "the spool cannot be opened: " in first
    assert str(tmp_path / name) in first
    assert re.search(r"^spooled +unknown *$", said.stdout, re.MULTILINE)
    found = insend.json("status")
    assert (found["spooled"], found["waiting"]) == (None, 1)
    assert "the spool cannot be opened" in found["spool_fault"]
    assert insend("doctor").stdout.count("the spool cannot be opened") == 1
