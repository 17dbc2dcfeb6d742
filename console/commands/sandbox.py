"""``insend sandbox``: the local tracker, with a line for each event that it receives."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

import click
from rich.text import Text

from insend_relay.console.commands.exits import needs
from insend_relay.console.terminal import plain, screen

if TYPE_CHECKING:
    from insend_relay.console.sandbox.tracker import Received


@click.command(epilog="Example: insend sandbox --port 8080")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    default=8080,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="The port to listen on; 0 takes a free one.",
)
def sandbox(host: str, port: int) -> None:
    """A tracker on this machine that enforces the contract and shows what it received.

    Its page shows events whole, personal data included: it is for trying things, never for real visitors.
    """
    with needs("sandbox", "httptools"):
        from insend_relay.console.sandbox.sandbox import TRACKER_PATH, serve  # noqa: PLC0415 - see the line above

    console = screen()

    def announce(url: str) -> None:
        page = url.removesuffix(TRACKER_PATH)
        console.print(plain(f"Sandbox tracker, until Ctrl-C. What it receives: {page}/"), soft_wrap=True)
        console.print(plain(f"Deliver to it: INSEND_TRACKER_URL={url} insend worker"), soft_wrap=True)

    serve(host=host, port=port, on_ready=announce, on_event=lambda event: console.print(_line(event), soft_wrap=True))


def _line(event: Received) -> Text:
    """When, what, and what it is answered; no uid and no value of the event, since this may end up in a log."""
    arrived = datetime.fromtimestamp(event.arrived_at).astimezone().strftime("%H:%M:%S")
    answered = str(event.status or "closed")
    line = f"{arrived}  {answered:6}  {event.type or 'unknown type':16}  {'; '.join(event.faults)}".rstrip()
    return plain(line, "" if event.status == HTTPStatus.OK else "red")
