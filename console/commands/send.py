"""``insend send``: one event from the command line, or a file of them; the same path that a web application takes."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import click

from insend_relay.console.commands.json_option import JsonObject
from insend_relay.console.commands.send_file import NO_UID, send_file, without_empty_uids
from insend_relay.console.commands.wording import as_options, meaning
from insend_relay.console.terminal import screen
from insend_relay.outbox.errors import InvalidEvent
from insend_relay.outbox.settings import Settings
from insend_relay.producers.insend import InSend

_PATIENCE_MS = 5_000  # no page waits for this: give a far-away Redis the time that a web request must not take


@click.command(
    epilog="""Examples:

insend send purchase --visitor-uid 42 --properties @order.json

insend send --file events.ndjson"""
)
@click.argument("type", required=False)
@click.option("--properties", type=JsonObject(), help="The event's own fields.")
@click.option("--visitor-info", type=JsonObject(), help="What is known about the visitor; @FILE keeps it out of `ps`.")
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

    A line of `insend dead export` sends the event of its payload in the place of the dead letter. If the letter is
    gone, nothing is sent for it, so a second run of the same file is harmless.
    """
    event = without_empty_uids({name: value for name, value in given.items() if value is not None})
    if (type is None) == (file is None):
        raise click.UsageError("give either an event TYPE or --file")
    if file is not None and event:
        raise click.UsageError(f"with --file, everything stands in the file: leave out {_options(event)}")
    settings = Settings.from_env()
    settings = dataclasses.replace(
        settings, invalid="raise", enqueue_timeout_ms=max(settings.enqueue_timeout_ms, _PATIENCE_MS)
    )
    if file is None:
        _send_one(settings, type or "", event)
    else:
        send_file(settings, sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes())


def _send_one(settings: Settings, type: str, event: dict[str, Any]) -> None:
    strict = not event.pop("no_strict", False)
    with InSend(settings=settings) as insend:
        try:
            receipt = insend.event(type, strict=strict, **event)
        except InvalidEvent as error:
            raise as_options(error) from None
    if receipt.where == "no_visitor":
        raise click.UsageError(f"not kept: {NO_UID}; give --visitor-uid or --guest-uid")
    screen().print(f"{receipt.id}: {meaning(receipt)}")


def _options(event: dict[str, Any]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in event)
