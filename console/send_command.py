"""``insend send``: one event from the command line, or a file of them; the same path that a web application takes.

A file is checked whole before its first event is sent, so that a mistake in line 900 does not leave 899 events sent.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

import click

from insend_relay.console.exits import USAGE
from insend_relay.console.terminal import counted, screen
from insend_relay.outbox.errors import InvalidEvent, NotAccepted
from insend_relay.outbox.settings import Settings
from insend_relay.producers.insend import InSend
from insend_relay.producers.receipt import Receipt

_PATIENCE_MS = 5_000  # nobody's page waits for us: give a far-away Redis the time that a web request must not
_UIDS = ("visitor_uid", "guest_uid")
_TEXTS = (*_UIDS, "url", "path", "title", "referrer", "host", "idempotency_key")
_FIELDS = ("type", "properties", "visitor_info", "attributes", "strict", *_TEXTS)
_NOBODY = "it names neither a visitor nor a guest"
_MEANING = {
    "redis": "kept, and delivered once the tracker takes it",
    "spool": "kept on this machine's disk until Redis takes it",
    "duplicate": "an event with this idempotency key was kept before",
    "opted_out": "not kept: the visitor does not want to be tracked",
    "disabled": "not kept: sending is switched off (INSEND_ENABLED)",
}


class _JsonObject(click.ParamType[dict[str, Any]]):
    """A JSON object: as it is, from a file (``@name``), or from stdin (``-``)."""

    name = "JSON|@FILE|-"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "-":
            value = sys.stdin.buffer.read()
        elif value.startswith("@"):
            value = Path(value[1:]).read_bytes()
        try:
            return read_object(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command(
    epilog="""Examples:

insend send purchase --visitor-uid 42 --properties @order.json

insend send --file events.ndjson"""
)
@click.argument("type", required=False)
@click.option("--properties", type=_JsonObject(), help="The event's own fields.")
@click.option("--visitor-info", type=_JsonObject(), help="What is known about the visitor; @FILE keeps it out of `ps`.")
@click.option("--visitor-uid", help="The registered visitor.")
@click.option("--guest-uid", help="The guest; with both, this guest has become this visitor.")
@click.option("--url", help="The page's full address.")
@click.option("--path", help="The page's path.")
@click.option("--title", help="The page's title.")
@click.option("--referrer", help="The previous page.")
@click.option("--host", help="The site's host, with its port.")
@click.option("--idempotency-key", help="Your name for this event: a second one of that name is a duplicate.")
@click.option("--no-strict", is_flag=True, default=None, help="Send unknown types and properties as they are.")
@click.option("--file", metavar="FILE|-", help="Send a file: one JSON object a line, with these fields' names.")
def send(type: str | None, file: str | None, **given: Any) -> None:
    """Send one event of TYPE, or a file of events.

    A line of the file: {"type": "custom", "visitor_uid": "42", "properties": {"key": "signup"}}. Further fields are
    visitor_info, guest_uid, url, path, title, referrer, host, attributes, idempotency_key and strict (false is
    --no-strict). When a line is wrong, nothing of the file is sent.
    """
    event = _without_empty_uids({name: value for name, value in given.items() if value is not None})
    if (type is None) == (file is None):
        raise click.UsageError("give either an event TYPE or --file")
    if file is not None and event:
        raise click.UsageError(f"with --file, everything stands in the file: leave out {', '.join(_options(event))}")
    settings = Settings.from_env()
    settings = dataclasses.replace(
        settings, invalid="raise", enqueue_timeout_ms=max(settings.enqueue_timeout_ms, _PATIENCE_MS)
    )
    with InSend(settings=settings) as insend:
        if file is None:
            strict = not event.pop("no_strict", False)
            try:
                receipt = insend.event(type or "", strict=strict, **event)
            except InvalidEvent as error:
                raise InvalidEvent(_said_here(error, "--no-strict")) from None
            if receipt.where == "no_visitor":
                raise click.UsageError(f"not kept: {_NOBODY}; give --visitor-uid or --guest-uid")
            screen().print(f"{receipt.id}: {_meaning(receipt)}")
        else:
            _send_file(insend, sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes())


def read_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object with its fractions exact (Decimal); ValueError says what is wrong."""
    try:
        value = json.loads(text, parse_float=Decimal, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at character {error.pos + 1}") from None
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ArithmeticError:  # Decimal's own limit: 1e999999999999999999999
        raise ValueError("a number has an exponent that is out of all bounds") from None
    if not isinstance(value, dict):
        raise ValueError("must be a JSON object")  # noqa: TRY004 - the text's fault, not our caller's
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _options(event: dict[str, Any]) -> Iterator[str]:
    return (f"--{name.replace('_', '-')}" for name in event)


def _send_file(insend: InSend, content: bytes) -> None:
    lines = [(number, line) for number, line in enumerate(content.splitlines(), 1) if line.strip()]
    events = _checked(insend.settings, lines)
    sent: Counter[str] = Counter()
    try:
        for event in events:
            sent[_meaning(insend.event(**event))] += 1
    except (NotAccepted, KeyboardInterrupt):
        done = sent.total()
        click.echo(
            f"{done:,} of {counted(len(events), 'event')} sent. The next one is in line {lines[done][0]}: "
            "once it works again, send the file from that line on.",
            err=True,
        )
        raise
    console = screen()
    console.print(f"{counted(len(events), 'event')} sent")
    for meaning, count in sent.most_common():
        console.print(f"  {count:,} {meaning}")


def _meaning(receipt: Receipt) -> str:
    unconfirmed = "" if receipt.confirmed else "; not confirmed as INSEND_DURABILITY wants it"
    return _MEANING.get(receipt.where, receipt.where) + unconfirmed


def _checked(settings: Settings, lines: list[tuple[int, bytes]]) -> list[dict[str, Any]]:
    """The events of all lines; ends the run with every fault when a single one is wrong."""
    events, faulty = [], 0
    # Switched off, an InSend checks and keeps nothing.
    with InSend(settings=dataclasses.replace(settings, enabled=False)) as checker:
        for number, line in lines:
            event, faults = _check(checker, line)
            events.append(event)
            faulty += bool(faults)
            for fault in faults:
                click.echo(f"line {number}: {fault}", err=True)
    if faulty:
        click.echo(f"insend: nothing was sent: {faulty:,} of {counted(len(lines), 'line')} cannot be used", err=True)
        raise click.exceptions.Exit(USAGE)
    return events


def _check(checker: InSend, line: bytes) -> tuple[dict[str, Any], list[str]]:
    """A line's event, and what is wrong with it."""
    try:
        event = read_object(line)
    except ValueError as error:
        return {}, [str(error)]
    faults = [f"{name}: not a field of an event" for name in event if name not in _FIELDS]
    event = _without_empty_uids(event)
    if not any(name in event for name in _UIDS):
        faults.append(_NOBODY)
    if not isinstance(event.get("strict", True), bool):
        faults.append("strict: must be true or false")
    if "type" not in event:
        return event, [*faults, "type: missing"]
    known: dict[str, Any] = {name: value for name, value in event.items() if name in _FIELDS}
    try:
        _: Receipt = checker.event(**known)
    except InvalidEvent as error:
        faults += [f"{path}: {problem}" for path, problem in _said_here(error, '"strict": false')]
    return event, faults


def _without_empty_uids(event: dict[str, Any]) -> dict[str, Any]:
    """An event that names its visitor by an empty text or null is one that names none."""
    return {
        name: value
        for name, value in event.items()
        if name not in _UIDS or not (value is None or (isinstance(value, str) and not value.strip()))
    }


def _said_here(error: InvalidEvent, lenient: str) -> Iterator[tuple[str, str]]:
    """The faults with the words of a command line or a file, not those of Python."""
    return ((path, problem.replace("strict=False", lenient)) for path, problem in error.faults)
