"""``insend dead``: look at dead letters, correct, export or discard them. ``insend replay`` sends them again."""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import click
from rich.console import Console

from insend_relay.console.commands.edit import edit
from insend_relay.console.commands.filters import Wanted, filter_options
from insend_relay.console.commands.letters import count_first, group_table, letter_table, none_matches, shown
from insend_relay.console.commands.opening import open_outbox
from insend_relay.console.terminal import (
    agreed,
    counted,
    json_option,
    moment,
    personal_option,
    plain,
    print_json,
    screen,
    yes_option,
)
from insend_relay.operations.dead import INVALID, DeadLetters, Letter
from insend_relay.operations.status import read_clock
from insend_relay.outbox.errors import OutboxError
from insend_relay.outbox.quarantine import CRASHED

_ON_SCREEN = 200  # a table longer than this is not read; --json and the filters reach every letter


class _InOrder(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.commands)


@click.group(cls=_InOrder)
def dead() -> None:
    """Look at dead letters: the events that the tracker refused until the retry policy gave them up.

    They stay until you send them again (`insend replay`, or `insend dead edit` for one that has to be corrected) or
    discard them.
    """


@dead.command("list", epilog="Example: insend dead list --type purchase --since 2h")
@filter_options
@json_option
def list_(wanted: Wanted, *, as_json: bool) -> None:
    """One line for each letter, in order of acceptance."""
    with open_outbox() as outbox:
        now_ms = read_clock(outbox)
        letters = DeadLetters(outbox)
        found = letters.scan(wanted.filter(outbox))
        if as_json:
            for letter in found:
                print_json(shown(letter, personal=False))
            return
        first = list(islice(found, _ON_SCREEN))
        more = sum(1 for _ in found)
        console = screen()
        if not first:
            console.print(none_matches(letters), soft_wrap=True)
            return
    console.print(letter_table(first, now_ms=now_ms))
    if more:
        console.print(f"... and {more:,} more: narrow it down by filters, or use --json for all of them")


@dead.command(epilog="Example: insend dead show 0192f0c1-7a3b-7c44-8d2e-0f5a6b7c8d9e")
@click.argument("id", type=click.UUID)
@personal_option
@json_option
def show(id: uuid.UUID, *, show_personal: bool, as_json: bool) -> None:
    """All that is known of one letter."""
    with open_outbox() as outbox:
        letter = DeadLetters(outbox).get(id)
    if as_json:
        print_json(shown(letter, personal=show_personal))
    else:
        _print_letter(letter, screen(), personal=show_personal)


@dead.command(epilog="Example: insend dead groups")
@json_option
def groups(*, as_json: bool) -> None:
    """How many letters there are of each type and reason, with the revenue of purchases."""
    with open_outbox() as outbox:
        found, now_ms = DeadLetters(outbox).groups(), read_clock(outbox)
    if as_json:
        print_json([group.as_dict() for group in found])
    elif found:
        screen().print(group_table(found, now_ms=now_ms))
    else:
        screen().print("No dead letters.")


dead.add_command(edit)


@dead.command(epilog="Example: insend dead discard --type view_product --until 30d")
@filter_options
@yes_option
def discard(wanted: Wanted, *, yes: bool) -> None:
    """Give letters up for good."""
    console = screen()
    with open_outbox() as outbox:
        letters = DeadLetters(outbox)
        meant = wanted.filter(outbox)
        total = count_first(letters, meant, console, now_ms=read_clock(outbox))
        if not total or not agreed(f"Discard {counted(total, 'letter')} for good?", yes=yes):
            return
        discarded = 0
        try:
            for letter in letters.scan(meant):
                discarded += letters.discard(letter.id)
        except (OutboxError, KeyboardInterrupt):
            screen(stderr=True).print(f"{counted(discarded, 'letter')} discarded before this:")
            raise
    console.print(f"{counted(discarded, 'letter')} discarded")


@dead.command(epilog="Example: insend dead export letters.ndjson --type purchase")
@click.argument("file", metavar="FILE|-")
@filter_options
@personal_option
def export(wanted: Wanted, file: str, *, show_personal: bool) -> None:
    """Write letters, whole, to a file as NDJSON.

    The file is a new one that only you can read, since it holds personal data; the letters stay dead letters. To
    stdout (-) only with --show-personal. Correct each line's payload, and `insend send --file` sends the events.
    """
    if file == "-" and not show_personal:
        raise click.UsageError("letters hold personal data: to stdout they go only with --show-personal")
    console = screen(stderr=True)
    with open_outbox() as outbox:
        letters = DeadLetters(outbox)
        meant = wanted.filter(outbox)
        if not count_first(letters, meant, console, now_ms=read_clock(outbox)):
            return
        if file == "-":
            # A terminal obeys control characters, and a letter may hold any.
            written = _write(letters.scan(meant), sys.stdout.buffer, ascii_only=sys.stdout.isatty())
        else:
            written = _write_file(letters.scan(meant), Path(file))
    where = "to stdout" if file == "-" else f"to {file}, which only you can read"
    console.print(plain(f"{counted(written, 'letter')} written {where}"))


def _write(letters: Iterable[Letter], out: BinaryIO, *, ascii_only: bool = False) -> int:
    count = 0
    for letter in letters:
        text = json.dumps(letter.as_dict(), ensure_ascii=ascii_only)
        out.write(text.replace("\x7f", "\\u007f").encode(errors="replace") + b"\n")
        count += 1
    out.flush()
    return count


def _write_file(letters: Iterable[Letter], path: Path) -> int:
    """To a new file of mode 0600; no half of one stays behind when it fails."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise click.UsageError(f"{path} exists already: choose another name") from None
    try:
        with os.fdopen(descriptor, "wb") as out:
            count = _write(letters, out)
            os.fsync(out.fileno())
    except BaseException:
        path.unlink()
        raise
    return count


def _print_letter(letter: Letter, console: Console, *, personal: bool) -> None:
    about: dict[str, Any] = {
        "id": str(letter.id),
        "lane": str(letter.lane or "none"),
        **shown(letter, personal=personal),
    }
    about.pop("record_sha1", None)
    about["accepted_at"], about["died_at"] = moment(letter.accepted_at_ms), moment(letter.died_at_ms)
    payload, text = about.pop("payload"), about.pop("payload_text", about.pop("payload_base64", ""))
    for name, value in about.items():
        if value not in (None, ""):
            console.print(plain(f"{name.replace('_', ' '):12} "), plain(str(value)), sep="", soft_wrap=True)
    body = text if payload is None else json.dumps(payload, ensure_ascii=False, indent=2)
    for line in body.splitlines():
        console.print(plain(line), soft_wrap=True)
    if letter.reason == CRASHED:
        console.print(
            "Its workers crashed while they sent it, so the tracker may have it and no answer is known. Find the crash "
            "in their logs; `insend replay` may crash them again.",
            soft_wrap=True,
        )
    if letter.reason == INVALID:
        console.print(
            f"It breaks the rules, so it is not replayed: `insend dead edit {letter.id}` corrects it and sends it.",
            soft_wrap=True,
        )
