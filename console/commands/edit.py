"""``insend dead edit``: a person corrects the event of a dead letter, and it is sent again under its id."""

from __future__ import annotations

import sys
import uuid
from typing import Any

import click
from rich.console import Console

from insend_relay.console.commands.changes import changes
from insend_relay.console.commands.correction import correct
from insend_relay.console.commands.draft import Draft, editor_available
from insend_relay.console.commands.json_literal import indented
from insend_relay.console.commands.json_option import JsonObject
from insend_relay.console.commands.opening import open_outbox
from insend_relay.console.commands.wording import answer_lines, as_options
from insend_relay.console.terminal import agreed, json_option, personal_option, plain, print_json, screen, yes_option
from insend_relay.operations.dead import INVALID, DeadLetters, Letter
from insend_relay.operations.repair import Corrected, repair
from insend_relay.outbox.errors import InvalidEvent
from insend_relay.outbox.store import Outbox
from insend_relay.producers.json_reader import read_object

_HELP = "Save the corrected event and close the editor to go on; delete everything to stop."


@click.command(
    epilog="""Examples:

insend dead edit 0192f0c1-7a3b-7c44-8d2e-0f5a6b7c8d9e

insend dead edit 0192f0c1-7a3b-7c44-8d2e-0f5a6b7c8d9e --payload @order.json --yes"""
)
@click.argument("id", type=click.UUID)
@click.option("--payload", type=JsonObject(), help="The corrected event, whole; without it an editor opens.")
@click.option("--no-strict", is_flag=True, help="Let unknown types and properties pass.")
@personal_option
@yes_option
@json_option
def edit(
    id: uuid.UUID, payload: dict[str, Any] | None, *, no_strict: bool, show_personal: bool, yes: bool, as_json: bool
) -> None:
    """Correct the event of a dead letter and send it again.

    Opens the event, whole, in $VISUAL or $EDITOR, or takes it from --payload. The corrected event is checked by the
    rules that producers obey; then the command shows what changes, asks, and sends it again: with the same id, to the
    tail of its visitor's lane.
    """
    strict = False if no_strict else None
    console = screen(stderr=as_json)
    with open_outbox() as outbox:
        letter = DeadLetters(outbox).get(id)
        if not letter.decoded:
            raise click.UsageError(
                f"the record of {id} is of a newer release, or is no record at all, so it cannot be edited here. "
                "`insend dead export` writes it down; `insend send --file` sends the event that you write in its place"
            )
        if payload is not None:
            event = _checked(letter, payload, strict=strict)
            run = _apply(outbox, letter, event, console, personal=show_personal, yes=yes)
        else:
            run = _edit(outbox, letter, console, strict=strict, personal=show_personal, yes=yes)
    if as_json:
        print_json({"id": str(id), "repaired": bool(run), "run": run or None})


def _edit(outbox: Outbox, letter: Letter, console: Console, *, strict: bool | None, personal: bool, yes: bool) -> str:
    """Let the operator correct the event in an editor, as often as it takes; the replay run, or "" without one."""
    if not editor_available():
        raise click.UsageError("there is no terminal for an editor here: give --payload @FILE, or set EDITOR")
    notes = [f"Dead letter {letter.id}: {letter.type}, {letter.reason}", _HELP]
    told = [f"Fault: {fault}" for fault in answer_lines(letter.answer)] if letter.reason == INVALID else []
    refusal: InvalidEvent | None = None
    with Draft(indented(letter.payload).encode(), f"{letter.id}.json") as draft:
        while draft.edit([*notes, *told]):
            try:
                event = _checked(letter, _read(draft.text), strict=strict)
            except InvalidEvent as error:
                refusal = error
                if not sys.stdin.isatty():
                    break
                told = [f"Fault: {': '.join(fault)}" for fault in error.faults]
            else:
                run = _apply(outbox, letter, event, console, personal=personal, yes=yes)
                draft.used = bool(run)
                return run
        if refusal is not None and draft.text:
            raise refusal
    console.print("Nothing was changed.")
    return ""


def _read(text: bytes) -> dict[str, Any]:
    """The operator's JSON object; InvalidEvent when it is none."""
    try:
        return read_object(text)
    except ValueError as error:
        raise InvalidEvent([("the text", str(error))]) from None


def _checked(letter: Letter, data: dict[str, Any], *, strict: bool | None) -> Corrected:
    try:
        return correct(letter, data, strict=strict)
    except InvalidEvent as error:
        raise as_options(error) from None


def _apply(outbox: Outbox, letter: Letter, event: Corrected, console: Console, *, personal: bool, yes: bool) -> str:
    """Show what changes, ask, and do it; the replay run, or "" when nothing was done."""
    if event.payload == letter.payload and event.lane == letter.lane and letter.reason != INVALID:
        console.print(f"That is the letter's event. `insend replay --id {letter.id}` sends it again.", soft_wrap=True)
        return ""
    for path, before, after in changes(letter.payload, event.payload, personal=personal):
        console.print(plain(f"{path}: {before} -> {after}"), soft_wrap=True)
    if event.lane != letter.lane:
        console.print(plain(f"lane: {letter.lane or 'none'} -> {event.lane}"), soft_wrap=True)
    if not agreed("Replace the letter's event and send it again?", yes=yes):
        return ""
    run = repair(outbox, letter, event)
    console.print(f"{letter.id} is sent again; `insend replay --run {run}` shows what becomes of it.", soft_wrap=True)
    return run
