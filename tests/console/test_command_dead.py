from __future__ import annotations

import errno
import json
import re
import stat
import uuid
from pathlib import Path
from typing import Any

import pytest
from command_line import ALICE, BOB, CommandLine, event, letter
from lanes import purchase
from waiting import PATIENCE_SECONDS, wait_until

from insend_relay.operations.dead import DeadLetters, Letter
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.quarantine import CRASHED
from insend_relay.outbox.record import new_id
from insend_relay.outbox.store import Outbox

PERSONAL = event(
    visitor_info={"first_name": "Zoë", "email": "zoe@example.com"},
    properties={"order_id": "12345", "revenue": 1.10, "comment": "write to zoe@example.com"},
)


@pytest.fixture
def some(outbox: Outbox) -> dict[str, uuid.UUID]:
    """Three dead letters of two visitors."""
    return {
        "refused": letter(outbox, ALICE, type="purchase"),
        "cart": letter(outbox, BOB, type="update_cart", reason="unknown"),
        "again": letter(outbox, ALICE, type="purchase", reason="answered 422"),
    }


def ids(insend: CommandLine, *options: object) -> list[str]:
    return [json.loads(line)["id"] for line in insend("dead", "list", "--json", *options).stdout.splitlines()]


def test_the_list_has_a_line_for_each_letter_in_order_of_acceptance(
    insend: CommandLine, some: dict[str, uuid.UUID]
) -> None:
    shown = insend("dead", "list").stdout
    places = [shown.index(str(some[name])) for name in ("refused", "cart", "again")]
    assert places == sorted(places)
    assert "update_cart" in shown
    assert "bob" in shown
    assert "answered 422" in shown


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--type", "purchase"], ["refused", "again"]),
        (["--reason", "answered 422"], ["again"]),
        (["--outcome", "unknown"], ["cart"]),
        (["--app", "shop"], ["refused", "cart", "again"]),
        (["--app", "elsewhere"], []),
        (["--visitor", "bob"], ["cart"]),
        (["--since", "1h"], ["refused", "cart", "again"]),
        (["--until", "1h"], []),
        (["--since", "2001-01-01", "--until", "2001-01-02T00:00:00Z"], []),
        (["--type", "purchase", "--visitor", "bob"], []),
    ],
)
def test_every_filter_narrows_the_list(
    insend: CommandLine, some: dict[str, uuid.UUID], options: list[str], names: list[str]
) -> None:
    assert ids(insend, *options) == [str(some[name]) for name in names]


def test_the_filter_for_an_id_finds_one_letter(insend: CommandLine, some: dict[str, uuid.UUID]) -> None:
    assert ids(insend, "--id", some["cart"]) == [str(some["cart"])]


def test_the_table_is_cut_and_says_how_many_more_there_are(
    insend: CommandLine, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter(outbox)
    letter(outbox)
    letter(outbox)
    monkeypatch.setattr("insend_relay.console.commands.dead._ON_SCREEN", 2)
    assert "... and 1 more" in insend("dead", "list").stdout


def test_without_letters_every_view_says_so(insend: CommandLine, tmp_path: Path) -> None:
    assert insend("dead", "list").stdout == "There are no dead letters.\n"
    assert insend("dead", "list", "--json").stdout == ""
    assert insend("dead", "groups").stdout == "No dead letters.\n"
    assert insend("dead", "discard", "--yes").stdout == "There are no dead letters.\n"
    export = insend("dead", "export", tmp_path / "none")
    assert (export.exit_code, export.stderr) == (0, "There are no dead letters.\n")
    assert not (tmp_path / "none").exists()


@pytest.mark.usefixtures("some")
@pytest.mark.parametrize("command", [["dead", "list"], ["dead", "discard"], ["dead", "export", "-"], ["replay"]])
def test_filters_that_match_nothing_are_told_what_there_is(insend: CommandLine, command: list[str]) -> None:
    personal = ["--show-personal"] if "export" in command else []
    result = insend(*command, *personal, "--type", "purchases")
    there_is = "1 purchase (answered 400), 1 purchase (answered 422), 1 update_cart (unknown)"
    assert (result.exit_code, result.output) == (0, f"No dead letter matches; there are {there_is}.\n")


def test_of_many_groups_the_ten_largest_are_named(insend: CommandLine, outbox: Outbox) -> None:
    letter(outbox, type="purchase", reason="status 400")
    for status in range(400, 411):
        letter(outbox, type="custom", reason=f"status {status}")
    letter(outbox, type="custom", reason="status 410")
    told = insend("dead", "list", "--app", "elsewhere").stdout
    assert told.startswith("No dead letter matches; there are 2 custom (status 410), 1 custom (status 400), ")
    assert told.endswith("1 custom (status 408), and more: `insend dead groups`.\n")
    assert told.count("status") == 10


def test_groups_count_by_type_and_reason(insend: CommandLine, some: dict[str, uuid.UUID], outbox: Outbox) -> None:
    letter(outbox, type="purchase")
    found = insend.json("dead", "groups")
    assert (found[0]["type"], found[0]["reason"], found[0]["count"]) == ("purchase", "answered 400", 2)
    assert len(found) == len(some)
    assert "answered 422" in insend("dead", "groups").stdout


def test_groups_show_the_revenue_of_purchases_and_when_the_last_died(insend: CommandLine, outbox: Outbox) -> None:
    letter(outbox, ALICE, purchase("1234.5"), type="purchase")
    letter(outbox, ALICE, purchase("-1"), type="purchase")
    letter(outbox, BOB, purchase("9").replace(b"purchase", b"order_update"), type="order_update")
    shown = insend("dead", "groups").stdout
    assert re.search(r"^ *2 +purchase +answered 400 +1,234\.50 \(1 unknown\) +\S+ s ago", shown, re.MULTILINE)
    assert re.search(r"^ *1 +order_update +answered 400 +\S+ s ago", shown, re.MULTILINE), "it repeats its order's"
    first, second = insend.json("dead", "groups")
    assert (first["revenue"], first["revenue_unknown"], first["last_seen"][-1]) == (1234.5, 1, "Z")
    assert second["revenue"] == 9


def test_a_letter_is_shown_masked_with_its_keys(insend: CommandLine, outbox: Outbox) -> None:
    dead = letter(outbox, payload=PERSONAL, answer='{"error": "zoe@example.com is not allowed for Zo\\u00eb"}')
    for shown in (insend("dead", "show", dead), insend("dead", "show", dead, "--json")):
        assert "zoe" not in shown.stdout.lower()
        assert "zo\\u00eb" not in shown.stdout.lower()
        assert "Zoë" not in shown.stdout
        assert "12345" in shown.stdout
        assert "first_name" in shown.stdout
        assert "is not allowed for" in shown.stdout


def test_a_letter_is_shown_whole_when_asked_for(insend: CommandLine, outbox: Outbox) -> None:
    dead = letter(outbox, payload=PERSONAL, answer="zoe@example.com is not allowed")
    shown = insend("dead", "show", dead, "--show-personal")
    assert "Zoë" in shown.stdout
    assert "zoe@example.com is not allowed" in shown.stdout
    assert (
        json.loads(insend("dead", "show", dead, "--show-personal", "--json").stdout)["payload_text"].encode()
        == PERSONAL
    )


def test_control_characters_of_an_answer_do_not_reach_the_terminal(insend: CommandLine, outbox: Outbox) -> None:
    dead = letter(outbox, answer="\x1b[2J[red]gone")
    assert "\\x1b[2J[red]gone" in insend("dead", "show", dead).stdout


def test_an_event_that_is_no_json_is_masked_whole(insend: CommandLine, outbox: Outbox) -> None:
    dead = new_id()
    outbox.bury_invalid("shop", dead, lane=None, type="?", payload=b"zoe@example.com {", faults="properties: missing")
    shown = insend("dead", "show", dead).stdout
    assert "zoe" not in shown
    assert "properties: missing" in shown
    assert "nobody usable" in insend("dead", "list").stdout


def test_a_letter_that_is_not_there_is_a_usage_error(insend: CommandLine) -> None:
    result = insend("dead", "show", new_id())
    assert result.exit_code == 2
    assert "no dead letter" in result.stderr


def test_discard_shows_the_groups_and_discards_what_matches(
    insend: CommandLine, some: dict[str, uuid.UUID], outbox: Outbox
) -> None:
    result = insend("dead", "discard", "--type", "purchase", "--yes")
    assert result.exit_code == 0
    assert "2 dead letters match:" in result.stdout
    assert "answered 422" in result.stdout
    assert "2 letters discarded" in result.stdout
    assert [found.id for found in DeadLetters(outbox).scan()] == [some["cart"]]


def test_discard_asks_nobody_without_a_terminal_and_changes_nothing(
    insend: CommandLine, some: dict[str, uuid.UUID], outbox: Outbox
) -> None:
    result = insend("dead", "discard")
    assert result.exit_code == 2
    assert "3 dead letters match" in result.stdout
    assert "--yes" in result.stderr
    assert DeadLetters(outbox).count() == len(some)


@pytest.mark.parametrize(("answer", "left"), [("y\n", 0), ("n\n", 1), ("\n", 1)])
def test_discard_asks_a_person_first(insend: CommandLine, outbox: Outbox, answer: str, left: int) -> None:
    letter(outbox)
    with insend.terminal("dead", "discard") as terminal:
        wait_until(lambda: "[y/N]" in terminal.shown)
        terminal.type(answer)
        assert terminal.ended() == 0
    assert DeadLetters(outbox).count() == left


def test_an_answer_that_is_none_is_asked_for_again_and_the_end_of_input_is_no_yes(
    insend: CommandLine, outbox: Outbox
) -> None:
    letter(outbox)
    with insend.terminal("dead", "discard") as terminal:
        wait_until(lambda: "[y/N]" in terminal.shown)
        terminal.type("what\n")
        wait_until(lambda: terminal.shown.count("[y/N]") == 2)
        terminal.type("\x04")
        assert terminal.ended() == 130
    assert "Please answer y or n" in terminal.shown
    assert DeadLetters(outbox).count() == 1


def test_ctrl_c_at_the_question_changes_nothing(insend: CommandLine, outbox: Outbox) -> None:
    letter(outbox)
    with insend.terminal("dead", "discard") as terminal:
        wait_until(lambda: "[y/N]" in terminal.shown)
        terminal.interrupt()
        assert terminal.ended() == 130
    assert DeadLetters(outbox).count() == 1
    assert "Traceback" not in terminal.shown


def test_a_discard_that_is_interrupted_says_how_far_it_came(
    insend: CommandLine, some: dict[str, uuid.UUID], outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = DeadLetters.discard

    def until_the_cart(letters: DeadLetters, id: uuid.UUID) -> bool:
        if id == some["cart"]:
            raise KeyboardInterrupt
        return really(letters, id)

    monkeypatch.setattr(DeadLetters, "discard", until_the_cart)
    result = insend("dead", "discard", "--yes")
    assert result.exit_code == 130
    assert "1 letter discarded before this" in result.stderr
    assert DeadLetters(outbox).count() == 2


def test_export_writes_whole_letters_to_a_file_of_ones_own(insend: CommandLine, outbox: Outbox, tmp_path: Path) -> None:
    dead = letter(outbox, payload=PERSONAL)
    letter(outbox, BOB, type="update_cart")
    file = tmp_path / "letters.ndjson"
    result = insend("dead", "export", file, "--type", "purchase")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "1 letter written" in result.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (line,) = file.read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["id"] == str(dead)
    assert json.loads(line)["payload_text"].encode() == PERSONAL
    assert DeadLetters(outbox).count() == 2


def test_export_overwrites_nothing(insend: CommandLine, outbox: Outbox, tmp_path: Path) -> None:
    letter(outbox)
    file = tmp_path / "letters.ndjson"
    file.write_text("mine")
    result = insend("dead", "export", file)
    assert result.exit_code == 2
    assert "exists already" in result.stderr
    assert file.read_text() == "mine"


def test_an_export_that_fails_leaves_no_half_file(
    insend: CommandLine, outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter(outbox)

    def no_room(_: Letter) -> dict[str, Any]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Letter, "as_dict", no_room)
    result = insend("dead", "export", tmp_path / "letters.ndjson")
    assert result.exit_code == 2
    assert "No space left on device" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_guest_is_shown_as_one(insend: CommandLine, outbox: Outbox) -> None:
    letter(outbox, Lane("shop", "g", "abc"))
    assert "abc (guest)" in insend("dead", "list").stdout


def test_export_to_a_folder_that_is_not_there_is_a_usage_error(
    insend: CommandLine, outbox: Outbox, tmp_path: Path
) -> None:
    letter(outbox)
    result = insend("dead", "export", tmp_path / "none" / "letters.ndjson")
    assert result.exit_code == 2
    assert "No such file or directory" in result.stderr


def test_an_export_to_a_terminal_writes_no_control_characters(insend: CommandLine, outbox: Outbox) -> None:
    letter(outbox, payload=event(name="a\x7fb\x9bc"))
    with insend.terminal("dead", "export", "-", "--show-personal") as terminal:
        assert terminal.ended() == 0
    assert "\\u007f" in terminal.shown
    assert not {"\x7f", "\x9b"} & set(terminal.shown)


def test_export_to_stdout_only_with_show_personal(insend: CommandLine, outbox: Outbox) -> None:
    dead = letter(outbox, payload=PERSONAL)
    refused = insend("dead", "export", "-")
    assert refused.exit_code == 2
    assert "--show-personal" in refused.stderr
    assert refused.stdout == ""
    result = insend("dead", "export", "-", "--show-personal")
    assert json.loads(result.stdout)["id"] == str(dead)
    assert "1 letter written to stdout" in result.stderr


def test_a_reader_that_goes_away_is_no_traceback(insend: CommandLine, outbox: Outbox) -> None:
    for _ in range(40):
        letter(outbox, Lane("shop", "v", "carol"), event(properties={"key": "x" * 4000}))
    with insend.started("dead", "export", "-", "--show-personal") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(PATIENCE_SECONDS) == 141
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_the_letter_of_an_event_that_crashed_its_workers_says_so(insend: CommandLine, outbox: Outbox) -> None:
    dead = letter(outbox, reason=CRASHED)
    assert "Its workers crashed while they sent it" in insend("dead", "show", dead).stdout
    assert "crashed while" not in insend("dead", "show", letter(outbox)).stdout
