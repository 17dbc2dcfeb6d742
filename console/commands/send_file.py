"""``insend send --file``: events, and lines that ``insend dead export`` wrote, from a file of one JSON object a line.

The file is checked whole before its first event is sent, so that a mistake in line 900 does not leave 899 events sent.
A line of an export takes the place of its dead letter (``operations/repair.py``); it never goes into the spool.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import click

from insend_relay.console.commands.exits import FINDING, USAGE
from insend_relay.console.commands.letter_lines import LetterLine, LetterLines, is_letter_line
from insend_relay.console.commands.opening import open_outbox
from insend_relay.console.commands.wording import as_file, meaning
from insend_relay.console.terminal import counted, screen
from insend_relay.operations.repair import Resent, resend
from insend_relay.outbox.errors import InvalidEvent, NotAccepted, OutboxError
from insend_relay.outbox.settings import Settings
from insend_relay.producers.insend import InSend
from insend_relay.producers.json_reader import read_object
from insend_relay.producers.receipt import Receipt

_UIDS = ("visitor_uid", "guest_uid")
_FIELDS = (
    *("type", "properties", "visitor_info", "attributes", "strict", *_UIDS),
    *("url", "path", "title", "referrer", "host", "idempotency_key"),
)
NO_UID = "it names neither a visitor nor a guest"
_RESENT = {
    Resent.RESENT: "kept in the place of a dead letter, and delivered once the tracker takes it",
    Resent.ALREADY: "not sent: the dead letter is gone, it was sent, replayed or discarded before",
    Resent.CHANGED: "not sent: the dead letter was corrected meanwhile; export it again",
}


class Line(NamedTuple):
    """A line that can be used.

    Attributes:
        number: Its number in the file, from 1.
        event: The arguments of ``InSend.event``; empty for a line of an export.
        letter: What a line of an export says.
    """

    number: int
    event: dict[str, Any]
    letter: LetterLine | None = None


def send_file(settings: Settings, content: bytes) -> None:
    """Send the events of a file; ends the run with every fault when a single line is wrong.

    Args:
        settings: The account and the Redis.
        content: The file.
    """
    numbered = [(number, line) for number, line in enumerate(content.splitlines(), 1) if line.strip()]
    done: Counter[str] = Counter()
    with ExitStack() as stack:
        try:
            lines = _checked(settings, numbered)
            send = _Sender(settings, lines, stack)
            for line in lines:
                done[send(line)] += 1
        except (NotAccepted, OutboxError, KeyboardInterrupt):
            _say_where_to_go_on(numbered, done.total())
            raise
    _summarise(done)
    if done[_RESENT[Resent.CHANGED]]:
        raise click.exceptions.Exit(FINDING)


class _Sender:
    """Sends lines; opens only what they need, and before the first one goes.

    Args:
        settings: The account and the Redis.
        lines: All lines.
        stack: Closes what is opened.
    """

    def __init__(self, settings: Settings, lines: Iterable[Line], stack: ExitStack) -> None:
        self._settings = settings
        if any(line.letter is None for line in lines):
            self._insend = stack.enter_context(InSend(settings=settings))
        if any(line.letter is not None for line in lines):
            self._outbox = stack.enter_context(open_outbox(settings))

    def __call__(self, line: Line) -> str:
        """Send a line's event; what became of it."""
        letter = line.letter
        if letter is None:
            return meaning(self._insend.event(**line.event))
        if not self._settings.enabled:
            return meaning(Receipt(letter.id, "disabled"))
        if letter.event is None:
            return _RESENT[Resent.ALREADY]
        return _RESENT[resend(self._outbox, letter.id, letter.record_sha1, letter.event)]


def _say_where_to_go_on(numbered: list[tuple[int, bytes]], done: int) -> None:
    said = f"{done:,} of {counted(len(numbered), 'event')} sent."
    if done < len(numbered):
        said += f" The next one is in line {numbered[done][0]}: once it works again, send the file from that line on."
    click.echo(said, err=True)


def _summarise(done: Counter[str]) -> None:
    unsent = done[_RESENT[Resent.ALREADY]] + done[_RESENT[Resent.CHANGED]]
    console = screen()
    console.print(f"{counted(done.total() - unsent, 'event')} sent")
    for what, count in done.most_common():
        console.print(f"  {count:,} {what}", soft_wrap=True)


def _checked(settings: Settings, numbered: list[tuple[int, bytes]]) -> list[Line]:
    """The lines in their order; ends the run when a single one is wrong."""
    lines: dict[int, Line] = {}
    letters: list[tuple[int, dict[str, Any]]] = []
    faults: list[tuple[int, str]] = []
    # Switched off, an InSend checks and keeps nothing.
    with InSend(settings=dataclasses.replace(settings, enabled=False)) as checker:
        for number, text in numbered:
            try:
                event = read_object(text)
            except ValueError as error:
                faults.append((number, str(error)))
                continue
            if is_letter_line(event):
                letters.append((number, event))
            else:
                lines[number] = Line(number, without_empty_uids(event))
                faults += ((number, fault) for fault in _faults(checker, lines[number].event))
    if letters:
        with open_outbox(settings) as outbox:
            reader = LetterLines(outbox)
            lines |= {number: Line(number, {}, letter) for number, letter in reader.read(letters)}
            faults += reader.faults
    _end_if_faulty(faults, len(numbered))
    return [lines[number] for number, _ in numbered]


def _end_if_faulty(faults: Iterable[tuple[int, str]], lines: int) -> None:
    found = sorted(faults, key=lambda fault: fault[0])
    for number, fault in found:
        click.echo(f"line {number}: {fault}", err=True)
    if found:
        faulty = len({number for number, _ in found})
        click.echo(f"insend: nothing was sent: {faulty:,} of {counted(lines, 'line')} cannot be used", err=True)
        raise click.exceptions.Exit(USAGE)


def _faults(checker: InSend, event: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the event of a line."""
    yield from (f"{name}: not a field of an event" for name in event if name not in _FIELDS)
    if not any(name in event for name in _UIDS):
        yield NO_UID
    if not isinstance(event.get("strict", True), bool):
        yield "strict: must be true or false"
    if "type" not in event:
        yield "type: missing"
        return
    known: dict[str, Any] = {name: value for name, value in event.items() if name in _FIELDS}
    try:
        _: Receipt = checker.event(**known)
    except InvalidEvent as error:
        yield from as_file(error)


def without_empty_uids(event: dict[str, Any]) -> dict[str, Any]:
    """An event that names its visitor by an empty text or null is one that names none."""
    return {
        name: value
        for name, value in event.items()
        if name not in _UIDS or not (value is None or (isinstance(value, str) and not value.strip()))
    }
