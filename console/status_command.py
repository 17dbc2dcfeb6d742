"""``insend status``: one line that decides whether there is something to do, then the figures behind it."""

from __future__ import annotations

import dataclasses
import signal
import time

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from insend_relay.console.exits import FINDING
from insend_relay.console.opening import open_outbox
from insend_relay.console.spool_command import look
from insend_relay.console.terminal import json_option, moment, plain, print_json, screen, table
from insend_relay.outbox.errors import OutboxUnreachable
from insend_relay.outbox.masking import mask_answer
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.status import Status, headline, read_status, span
from insend_relay.outbox.store import Outbox

_REFRESH_SECONDS = 1.0
_LOOK_SECONDS = 0.05  # between two looks whether Ctrl-C was pressed


@click.command(epilog="Example: insend status --json")
@json_option
@click.option("--watch", is_flag=True, help="Refresh every second, until Ctrl-C.")
def status(*, as_json: bool, watch: bool) -> None:
    """How the relay stands; the first line says whether there is something to do.

    Exit code 1 when the books do not balance or delivery has stalled. Dead letters and pauses are no such finding.
    """
    if watch and as_json:
        raise click.UsageError("give either --json or --watch")
    settings = Settings.from_env()
    with open_outbox(settings) as outbox:
        found = _read(outbox, settings)
        if watch:
            _watch(outbox, settings, found)
    if as_json:
        print_json(found.as_dict())
    else:
        screen().print(_shown(found), soft_wrap=True)
    if not found.balanced or found.stalled:
        raise click.exceptions.Exit(FINDING)


def _read(outbox: Outbox, settings: Settings) -> Status:
    """The status with what trackers said masked: an answer may echo a visitor's data."""
    spooled = look(settings)
    found = read_status(outbox, spooled=spooled.events if spooled else 0)
    paused = [dataclasses.replace(pause, reason=mask_answer(pause.reason)) for pause in found.paused]
    return dataclasses.replace(found, paused=paused)


def _watch(outbox: Outbox, settings: Settings, found: Status) -> None:
    """Show and refresh until interrupted; a Redis that goes away meanwhile is shown, and waited for."""
    console = screen()
    if not console.is_terminal:
        raise click.UsageError("--watch needs a terminal; a program reads --json as often as it likes")
    # Not KeyboardInterrupt wherever it strikes: while a connection is cleared away Python ignores it.
    interrupted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: interrupted.append(number))
    try:
        with Live(_shown(found), console=console, auto_refresh=False) as live:
            while True:
                until = time.monotonic() + _REFRESH_SECONDS
                while not interrupted and time.monotonic() < until:
                    time.sleep(_LOOK_SECONDS)
                if interrupted:
                    raise KeyboardInterrupt
                try:
                    live.update(_shown(_read(outbox, settings)), refresh=True)
                except OutboxUnreachable as error:
                    live.update(plain(f"{error}; trying again", "red"), refresh=True)
    finally:
        signal.signal(signal.SIGINT, before)


def _shown(found: Status) -> RenderableType:
    parts: list[RenderableType] = [plain(headline(found), _style(found)), Text()]
    figures = [
        ("accepted", found.accepted),
        ("delivered", found.delivered),
        ("waiting", found.waiting),
        ("dead letters", found.dead),
        ("discarded", found.discarded),
        ("replayed", found.replayed),
        ("spooled", found.spooled),
        ("duplicates possible", found.duplicates_possible),
        ("visitors held back", found.held_lanes),
    ]
    if found.no_visitor:
        figures.append(("calls without a visitor, not kept", found.no_visitor))
    rows: list[tuple[str, str]] = [(name, f"{count:,}") for name, count in figures]
    if found.oldest_waiting_seconds is not None:
        rows.append(("oldest waiting", span(found.oldest_waiting_seconds)))
    if found.redis_headroom_bytes is not None:
        rows.append(("room in Redis", f"{found.redis_headroom_bytes / 1_048_576:,.0f} MB"))
    figures_table = table("", "", rows=rows)
    figures_table.show_header = False
    figures_table.columns[1].justify = "right"
    parts.append(figures_table)
    if found.paused:
        parts += [Text(), _paused(found)]
    return Group(*parts)


def _paused(found: Status) -> RenderableType:
    rows = []
    for pause in found.paused:
        until = "resumed by hand" if pause.until_ms is None else span(max(0, pause.until_ms - found.now_ms) / 1000)
        rows.append((pause.app, moment(pause.since_ms), until, pause.held, pause.reason))
    return table("PAUSED APP", "SINCE", "NEXT PROBE IN", "VISITORS", "REASON", rows=rows)


def _style(found: Status) -> str:
    if not found.balanced or found.stalled:
        return "bold red"
    return "bold yellow" if found.paused or found.dead else "bold green"
