"""``insend dead edit``: the corrected event is checked, shown and sent; the operator's text is never lost."""

from __future__ import annotations

import json
import re
import shlex
import stat
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from command_line import ALICE, BOB, CommandLine, a_worker, bury, claim, event, letter, settle
from waiting import wait_until

from insend_relay.outbox.dead import DeadLetters
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.record import decode, new_id
from insend_relay.outbox.repair import Corrected, repair
from insend_relay.outbox.store import Outbox

STORED: dict[str, Any] = {
    "app_key": "shop",
    "domain": "shop.example.com",
    "type": "purchase",
    "visitor_uid": "alice",
    "visitor_info": {"email": "zoe@example.com"},
    "properties": {"order_id": "7", "revenue": "12,50"},
}
RIGHT: dict[str, Any] = {**STORED, "properties": {"order_id": "7", "revenue": 12.5}}


@pytest.fixture
def dead(outbox: Outbox) -> uuid.UUID:
    """An invalid event among the dead letters."""
    return invalid(outbox)


def invalid(outbox: Outbox, payload: Any = None, lane: Lane | None = ALICE) -> uuid.UUID:
    event_id = new_id()
    written = payload if isinstance(payload, bytes) else json.dumps(payload or STORED).encode()
    faults = "properties.revenue: must be a number, not str; properties.state: no such field"
    outbox.bury_invalid("shop", event_id, lane=lane, type="purchase", payload=written, faults=faults)
    return event_id


def waiting(outbox: Outbox, lane: Lane = ALICE) -> list[Any]:
    return [json.loads(decode(data).payload) for data in outbox.read("LRANGE", outbox.keys.lane(lane), 0, -1)]


def given(insend: CommandLine, id: uuid.UUID, payload: Any, *more: str) -> Any:
    """Edit with a payload on the command line, and agree."""
    return insend("dead", "edit", id, "--payload", json.dumps(payload), "--yes", *more)


@pytest.fixture
def editor(tmp_path: Path) -> Editor:
    """An editor that a test writes in Python."""
    return Editor(tmp_path)


class Editor:
    """Writes the editor's program; each run of it also keeps what it was shown, and the mode of the file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._script = folder / "editor.py"
        self.environment = {"EDITOR": f"{shlex.quote(sys.executable)} {shlex.quote(str(self._script))}"}

    def does(self, *lines: str) -> dict[str, str]:
        """The settings that name the editor; its program has ``path``, ``text`` and ``run``, the number of this run."""
        start = (
            "import os, pathlib, sys",
            f"folder = pathlib.Path({str(self.folder)!r})",
            "path = pathlib.Path(sys.argv[-1])",
            "text = path.read_text()",
            "run = len(list(folder.glob('shown-*'))) + 1",
            "(folder / f'shown-{run}').write_text(text)",
            "(folder / 'path').write_text(str(path))",
            "(folder / 'mode').write_text(oct(path.stat().st_mode) + ' ' + oct(path.parent.stat().st_mode))",
        )
        self._script.write_text("\n".join((*start, *lines)))
        return self.environment

    def shown(self, run: int = 1) -> str:
        return (self.folder / f"shown-{run}").read_text()

    @property
    def file(self) -> Path:
        return Path((self.folder / "path").read_text())


# With --payload


def test_a_corrected_event_is_sent_again_under_its_id(insend: CommandLine, outbox: Outbox, dead: uuid.UUID) -> None:
    result = given(insend, dead, RIGHT)
    assert result.exit_code == 0
    assert 'properties.revenue: "12,50" -> 12.5' in result.stdout
    assert [sent["properties"] for sent in waiting(outbox)] == [{"order_id": "7", "revenue": 12.5}]
    assert DeadLetters(outbox).count() == 0
    assert insend.json("status")["discarded"] == 0


@pytest.mark.parametrize("source", ["file", "stdin"])
def test_the_payload_comes_from_a_file_or_from_stdin(
    insend: CommandLine, outbox: Outbox, dead: uuid.UUID, tmp_path: Path, source: str
) -> None:
    (tmp_path / "right.json").write_text(json.dumps(RIGHT))
    named = f"@{tmp_path}/right.json" if source == "file" else "-"
    result = insend("dead", "edit", dead, "--payload", named, "--yes", stdin=json.dumps(RIGHT))
    assert result.exit_code == 0
    assert len(waiting(outbox)) == 1


def test_the_replay_that_counts_it_is_named_and_can_be_looked_up(
    insend: CommandLine, outbox: Outbox, redis_url: str, dead: uuid.UUID
) -> None:
    (run,) = re.findall(r"insend replay --run (\w+)", given(insend, dead, RIGHT).stdout)
    with a_worker(outbox, redis_url, settle):
        result = insend("replay", "--run", run)
    assert (result.exit_code, "1 delivered, 0 came back" in result.stdout) == (0, True)


def test_for_a_program_the_answer_is_json(insend: CommandLine, dead: uuid.UUID) -> None:
    done = json.loads(given(insend, dead, RIGHT, "--json").stdout)
    assert done == {"id": str(dead), "repaired": True, "run": done["run"]}
    assert len(done["run"]) == 32


def test_an_event_that_breaks_the_rules_is_refused_with_every_fault_and_stays_dead(
    insend: CommandLine, outbox: Outbox, dead: uuid.UUID
) -> None:
    result = given(insend, dead, {**RIGHT, "properties": {"order_id": "", "revenu": 1}})
    assert result.exit_code == 2
    for path in ("properties.order_id: is empty", "properties.revenue: missing", "did you mean revenue? (--no-strict"):
        assert path in result.stderr
    assert DeadLetters(outbox).count() == 1
    assert (
        given(insend, dead, {**RIGHT, "properties": {**RIGHT["properties"], "gift": 1}}, "--no-strict").exit_code == 0
    )


def test_personal_values_are_masked_but_a_change_of_them_shows(
    insend: CommandLine, outbox: Outbox, dead: uuid.UUID
) -> None:
    changed = {**RIGHT, "visitor_info": {"email": "amy@example.com"}}
    result = given(insend, dead, changed)
    assert "visitor_info.email: ••• -> •••" in result.stdout
    assert "example.com" not in result.output.replace("shop.example.com", "")
    open_to_all = given(insend, invalid(outbox, lane=BOB), {**changed, "visitor_uid": "bob"}, "--show-personal")
    assert 'visitor_info.email: "zoe@example.com" -> "amy@example.com"' in open_to_all.stdout


def test_control_characters_of_a_hostile_event_do_not_reach_the_terminal(insend: CommandLine, outbox: Outbox) -> None:
    hostile = invalid(outbox, {**STORED, "properties": {"\x1b[2J": "\x9b1m[red]"}})
    result = given(insend, hostile, RIGHT)
    assert result.exit_code == 0
    assert not {"\x1b", "\x9b"} & set(result.output)


@pytest.mark.parametrize(
    "payload",
    [
        *(b"\xff\x00 no JSON", b'{"a":1,"a":2}', b"[" * 20_000, b"", b'{"n":1e999}', b'{"\\ud800":"\\udfff"}'),
        *(b'{"a":' * depth + b"1" + b"}" * depth for depth in (100, 200, 300, 450, 600, 900)),
    ],
    ids=lambda payload: f"{payload[:20]!r} of {len(payload)}",
)
def test_a_letter_whose_payload_is_no_json_is_replaced_whole(
    insend: CommandLine, outbox: Outbox, payload: bytes
) -> None:
    result = given(insend, invalid(outbox, payload, None), RIGHT)
    assert result.exit_code == 0, result.output
    assert "lane: none -> shop/v/alice" in result.stdout
    assert waiting(outbox)[0]["properties"] == RIGHT["properties"]


def test_a_corrected_uid_moves_the_event_to_that_visitors_lane(
    insend: CommandLine, outbox: Outbox, dead: uuid.UUID
) -> None:
    result = given(insend, dead, {**RIGHT, "visitor_uid": "bob"})
    assert "lane: shop/v/alice -> shop/v/bob" in result.stdout
    assert (len(waiting(outbox, ALICE)), len(waiting(outbox, BOB))) == (0, 1)


def test_without_a_terminal_and_without_yes_nothing_is_done(
    insend: CommandLine, outbox: Outbox, dead: uuid.UUID
) -> None:
    result = insend("dead", "edit", dead, "--payload", json.dumps(RIGHT))
    assert (result.exit_code, "--yes" in result.stderr) == (2, True)
    assert DeadLetters(outbox).count() == 1


def test_the_letters_own_event_is_no_correction(insend: CommandLine, outbox: Outbox) -> None:
    valid = letter(outbox, payload=json.dumps(RIGHT, separators=(",", ":")).encode())
    first = given(insend, valid, RIGHT)  # host is added: that is one
    assert first.exit_code == 0
    bury(outbox, claim(outbox))
    again = given(insend, valid, RIGHT)
    assert (again.exit_code, f"`insend replay --id {valid}` sends it again" in again.stdout) == (0, True)
    assert json.loads(given(insend, valid, RIGHT, "--json").stdout) == {
        "id": str(valid),
        "repaired": False,
        "run": None,
    }
    assert DeadLetters(outbox).count() == 1


def test_a_letter_that_is_gone_is_a_usage_error(insend: CommandLine) -> None:
    result = given(insend, new_id(), RIGHT)
    assert (result.exit_code, "no dead letter" in result.stderr) == (2, True)


def test_a_record_of_a_newer_release_is_not_edited(insend: CommandLine, outbox: Outbox) -> None:
    newer = letter(outbox)
    stored = outbox.read("HGET", outbox.keys.dead, newer.bytes)
    at = stored.index(newer.bytes) - 17
    outbox.read("HSET", outbox.keys.dead, newer.bytes, stored[:at] + b"\x02" + stored[at + 1 :])
    result = given(insend, newer, RIGHT)
    assert (result.exit_code, "of a newer release" in result.stderr) == (2, True)


def test_while_another_replayed_event_of_the_visitor_waits_the_letter_stays(
    insend: CommandLine, outbox: Outbox, dead: uuid.UUID
) -> None:
    first = invalid(outbox)
    assert given(insend, first, RIGHT).exit_code == 0
    result = given(insend, dead, RIGHT)
    assert (result.exit_code, "still waits in shop/v/alice" in result.stderr) == (2, True)
    assert DeadLetters(outbox).count() == 1


def test_without_redis_the_exit_code_says_so(insend: CommandLine) -> None:
    away = {"INSEND_REDIS_URL": "redis://127.0.0.1:1/0"}
    result = insend("dead", "edit", new_id(), "--payload", json.dumps(RIGHT), "--yes", **away)
    assert result.exit_code == 3


def test_the_account_of_the_environment_is_not_needed(insend: CommandLine, outbox: Outbox, dead: uuid.UUID) -> None:
    del insend.settings["INSEND_APP_KEY"], insend.settings["INSEND_DOMAIN"]
    assert given(insend, dead, RIGHT).exit_code == 0
    assert waiting(outbox)[0]["domain"] == "shop.example.com"


# In an editor


def test_the_editor_shows_the_event_with_its_faults_in_a_file_that_only_the_operator_can_read(
    insend: CommandLine, outbox: Outbox, dead: uuid.UUID, editor: Editor
) -> None:
    does = editor.does("""path.write_text(text.replace('"12,50"', "12.50"))""")
    result = insend("dead", "edit", dead, "--yes", **does)
    assert result.exit_code == 0, result.output
    assert "# Fault: properties.revenue: must be a number, not str\n" in editor.shown()
    assert '\n  "visitor_info": {\n    "email": "zoe@example.com"\n  },\n' in editor.shown()
    assert (editor.folder / "mode").read_text() == f"{oct(stat.S_IFREG | 0o600)} {oct(stat.S_IFDIR | 0o700)}"
    assert not editor.file.parent.exists()
    assert b'"revenue":12.50' in outbox.read("LINDEX", outbox.keys.lane(ALICE), 0)


def test_a_text_that_is_not_changed_changes_nothing(
    insend: CommandLine, outbox: Outbox, dead: uuid.UUID, editor: Editor
) -> None:
    for lines in ("pass", "path.write_text('')", "path.write_text('# only this')", "path.unlink()"):
        result = insend("dead", "edit", dead, "--yes", **editor.does(lines))
        assert (result.exit_code, "Nothing was changed." in result.stdout) == (0, True), lines
        assert not editor.file.parent.exists()
    assert DeadLetters(outbox).count() == 1


def test_where_a_person_is_at_the_terminal_the_editor_opens_again_with_the_faults(
    insend: CommandLine, outbox: Outbox, dead: uuid.UUID, editor: Editor
) -> None:
    does = editor.does(
        "if run == 1: text = text.replace('12,50', 'much')",
        "if run == 2: text = text.replace('\"much\"', '[1')",
        "if run == 3: text = text.replace('[1', '1.10')",
        "path.write_text(text)",
    )
    with insend.terminal("dead", "edit", dead, **does) as terminal:
        wait_until(lambda: "[y/N]" in terminal.shown)
        terminal.type("y\n")
        assert terminal.ended() == 0, terminal.shown
    assert "# Fault: properties.revenue: must be a number" in editor.shown(2)
    assert '"much"' in editor.shown(2)
    assert "# Fault: the text: not JSON" in editor.shown(3)
    assert waiting(outbox)[0]["properties"]["revenue"] == 1.1
    assert not editor.file.parent.exists()


def kept(result_text: str) -> bytes:
    (path,) = re.findall(r"your text is kept in (\S+), which only you can read", result_text)
    file = Path(path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = file.read_bytes()
    file.unlink()
    file.parent.rmdir()
    return text


def test_without_a_terminal_a_faulty_text_is_kept_and_its_faults_are_told(
    insend: CommandLine, dead: uuid.UUID, editor: Editor
) -> None:
    result = insend("dead", "edit", dead, "--yes", **editor.does("path.write_text(text.replace('12,50', 'much'))"))
    assert (result.exit_code, "properties.revenue: must be a number" in result.stderr) == (2, True)
    assert json.loads(kept(result.stderr))["properties"]["revenue"] == "much"


def test_the_kept_text_can_be_given_as_a_payload(
    insend: CommandLine, outbox: Outbox, dead: uuid.UUID, editor: Editor, tmp_path: Path
) -> None:
    does = editor.does("""path.write_text(text.replace('"12,50"', "12.50"))""")
    result = insend("dead", "edit", dead, **does)  # no terminal, no --yes
    assert (result.exit_code, "--yes" in result.stderr) == (2, True)
    (tmp_path / "mine.json").write_bytes(kept(result.stderr))
    assert insend("dead", "edit", dead, "--payload", f"@{tmp_path}/mine.json", "--yes").exit_code == 0
    assert len(waiting(outbox)) == 1


def test_a_person_who_does_not_agree_keeps_the_text(insend: CommandLine, dead: uuid.UUID, editor: Editor) -> None:
    does = editor.does("""path.write_text(text.replace('"12,50"', "12.50"))""")
    with insend.terminal("dead", "edit", dead, **does) as terminal:
        wait_until(lambda: "[y/N]" in terminal.shown)
        terminal.type("n\n")
        assert terminal.ended() == 0
    assert b"12.50" in kept(terminal.shown)


def test_the_text_is_kept_when_another_operator_was_quicker(
    insend: CommandLine, outbox: Outbox, dead: uuid.UUID, editor: Editor
) -> None:
    does = editor.does("""path.write_text(text.replace('"12,50"', "12.50"))""")
    with insend.terminal("dead", "edit", dead, **does) as terminal:
        wait_until(lambda: "[y/N]" in terminal.shown)
        repair(outbox, DeadLetters(outbox).get(dead), Corrected(ALICE, "", event()))
        bury(outbox, claim(outbox))
        terminal.type("y\n")
        assert terminal.ended() == 2
    assert "another operator has corrected the letter" in terminal.shown
    assert b"12.50" in kept(terminal.shown)


@pytest.mark.parametrize("ends", ["sys.exit(3)", "os.kill(os.getpid(), 9)"])
def test_an_editor_that_fails_leaves_the_text(
    insend: CommandLine, outbox: Outbox, dead: uuid.UUID, editor: Editor, ends: str
) -> None:
    result = insend("dead", "edit", dead, "--yes", **editor.does("path.write_text(text + 'mine')", ends))
    assert (result.exit_code, "Editing failed" in result.stderr) == (2, True)
    assert kept(result.stderr).endswith(b"mine\n")
    assert DeadLetters(outbox).count() == 1


def test_an_editor_that_is_not_there_is_a_usage_error(insend: CommandLine, dead: uuid.UUID) -> None:
    result = insend("dead", "edit", dead, "--yes", EDITOR="/nowhere/editor", VISUAL="")
    assert (result.exit_code, "$VISUAL or $EDITOR" in result.stderr) == (2, True)
    neither = insend("dead", "edit", dead, "--yes", EDITOR="", VISUAL="")
    assert (neither.exit_code, "give --payload @FILE" in neither.stderr) == (2, True)


def test_bytes_that_are_no_text_are_a_fault_and_are_kept(insend: CommandLine, dead: uuid.UUID, editor: Editor) -> None:
    does = editor.does("path.write_bytes(b'{\"a\": \"' + bytes([255]) + b'\"}')")
    result = insend("dead", "edit", dead, "--yes", **does)
    assert (result.exit_code, "not UTF-8" in result.stderr) == (2, True)
    assert kept(result.stderr) == b'{"a": "\xff"}\n'


def test_ctrl_c_belongs_to_the_editor_while_it_is_open(
    insend: CommandLine, outbox: Outbox, dead: uuid.UUID, editor: Editor
) -> None:
    does = editor.does(
        "import signal, time",
        "signal.signal(signal.SIGINT, lambda *_: (folder / 'interrupted').touch())",
        "(folder / 'open').touch()",
        "while not (folder / 'close').exists(): time.sleep(0.01)",
        """path.write_text(text.replace('"12,50"', "12.50"))""",
    )
    with insend.terminal("dead", "edit", dead, "--yes", **does) as terminal:
        wait_until((editor.folder / "open").exists)
        terminal.interrupt()
        terminal.interrupt()
        (editor.folder / "close").touch()
        assert terminal.ended() == 0, terminal.shown
    assert len(waiting(outbox)) == 1


@pytest.mark.parametrize("payload", [b"\xff\x00 no JSON", b"# {", b'{"\\ud800":1}', b'{"a":' * 900 + b"1" + b"}" * 900])
def test_a_hostile_payload_opens_in_the_editor_all_the_same(
    insend: CommandLine, outbox: Outbox, editor: Editor, payload: bytes
) -> None:
    does = editor.does(f"path.write_text({json.dumps(RIGHT)!r})")
    result = insend("dead", "edit", invalid(outbox, payload, None), "--yes", **does)
    assert result.exit_code == 0, result.output
    assert len(waiting(outbox)) == 1


# Who else names it


def test_an_invalid_letter_and_a_replay_that_skips_it_name_the_edit(insend: CommandLine, dead: uuid.UUID) -> None:
    assert f"insend dead edit {dead}" in insend("dead", "show", dead).stdout
    assert "insend dead edit ID" in insend("replay", "--yes").stdout


def test_a_valid_letter_does_not_name_the_edit(insend: CommandLine, outbox: Outbox) -> None:
    assert "dead edit" not in insend("dead", "show", letter(outbox)).stdout


def test_a_masked_letter_has_no_hash_that_would_prove_a_guess(insend: CommandLine, outbox: Outbox) -> None:
    dead = letter(outbox)
    assert "record_sha1" not in insend.json("dead", "show", dead)
    assert "record_sha1" in json.loads(insend("dead", "show", dead, "--json", "--show-personal").stdout)
