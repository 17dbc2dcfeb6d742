"""``insend dead edit`` in an editor: what it shows, and that the operator's text is never lost."""

from __future__ import annotations

import json
import re
import shlex
import stat
import sys
import uuid
from pathlib import Path

import pytest
from command_line import ALICE, CommandLine, bury, claim, event
from corrected_letters import RIGHT, invalid, waiting
from waiting import wait_until

from insend_relay.operations.dead import DeadLetters
from insend_relay.operations.repair import Corrected, repair
from insend_relay.outbox.record import decode
from insend_relay.outbox.store import Outbox


@pytest.fixture
def dead(outbox: Outbox) -> uuid.UUID:
    """An invalid event among the dead letters."""
    return invalid(outbox)


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


def test_the_editor_shows_the_event_with_its_faults_in_a_file_that_only_the_operator_can_read(
    insend: CommandLine, outbox: Outbox, dead: uuid.UUID, editor: Editor
) -> None:
    does = editor.does("""path.write_text(text.replace('"12,50"', "12.50"))""")
    result = insend("dead", "edit", dead, "--yes", **does)
    assert result.exit_code == 0, result.output
    fault = '# Fault: properties.revenue: must be a number, not str; write 12.50, without quotes, for "12,50"\n'
    assert fault in editor.shown()
    assert editor.shown().count("# Fault: ") == 2
    assert '\n  "visitor_info": {\n    "email": "zoe@example.com"\n  },\n' in editor.shown()
    assert (editor.folder / "mode").read_text() == f"{oct(stat.S_IFREG | 0o600)} {oct(stat.S_IFDIR | 0o700)}"
    assert not editor.file.parent.exists()
    assert b'"revenue":12.50' in decode(outbox.read("LINDEX", outbox.keys.lane(ALICE), 0)).payload


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
