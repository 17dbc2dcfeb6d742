"""``insend status``: one line that decides whether there is something to do, then the figures behind it."""

from __future__ import annotations

import dataclasses
import signal
import time

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from insend_relay.console.commands.book_tables import book_tables, revenue_rows
from insend_relay.console.commands.exits import FINDING
from insend_relay.console.commands.opening import open_outbox
from insend_relay.console.commands.spool import look
from insend_relay.console.commands.verdict import Verdict, verdict
from insend_relay.console.terminal import json_option, moment, plain, print_json, screen, table
from insend_relay.operations.jumps import acknowledge as forget
from insend_relay.operations.status import Status, read_status, span
from insend_relay.outbox.errors import OutboxUnreachable, SpoolError
from insend_relay.outbox.masking import mask_answer
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox

_REFRESH_SECONDS = 1.0
_LOOK_SECONDS = 0.05  # between two looks whether Ctrl-C was pressed
_STYLES = {"ok": "bold green", "notice": "bold yellow", "finding": "bold red"}


@click.command(epilog="Example: insend status --json")
@json_option
@click.option("--watch", is_flag=True, help="Refresh every second, until Ctrl-C.")
@click.option("--acknowledge", is_flag=True, help="You have seen that the books jumped back: show it no more.")
def status(*, as_json: bool, watch: bool, acknowledge: bool) -> None:
    """How the relay stands; the first line says whether there is something to do.

    Exit code 1 when a person is needed: docs/cli.md has the table. Dead letters, and a pause that ends by itself or by
    `insend resume`, are no such finding.
    """
    if watch and (as_json or acknowledge):
        raise click.UsageError("--watch goes with no other option")
    settings = Settings.from_env()
    with open_outbox(settings) as outbox:
        found = _read(outbox, settings)
        if acknowledge:
            found = _acknowledged(outbox, found)
        if watch:
            _watch(outbox, settings, found)
    said = verdict(found)
    if as_json:
        print_json(found.as_dict())
    else:
        screen().print(_shown(found, said), soft_wrap=True)
    if said.level == "finding":
        raise click.exceptions.Exit(FINDING)


def _acknowledged(outbox: Outbox, found: Status) -> Status:
    """The status without the jumps of the books that it had shown, which go from Redis too."""
    forget(outbox, found.jumps)
    console = screen(stderr=True)
    for jump in found.jumps:
        numbers = f"accepted went from {jump.accepted_before:,} to {jump.accepted_after:,} at {moment(jump.at_ms)}"
        console.print(f"acknowledged: {numbers}", soft_wrap=True)
    return dataclasses.replace(found, jumps=[])


def _read(outbox: Outbox, settings: Settings) -> Status:
    """The status with what trackers said masked: an answer may echo a visitor's data."""
    spooled, age, fault = None, None, None
    try:
        spooled = look(settings)
    except SpoolError as error:  # a finding: what Redis holds is worth knowing all the more
        fault = str(error) if settings.spool in str(error) else f"{settings.spool}: {error}"
    if spooled and spooled.oldest_at_ms is not None:
        age = max(0.0, time.time() - spooled.oldest_at_ms / 1000)
    found = read_status(outbox, spooled=spooled.events if spooled else 0, spooled_seconds=age)
    paused = [dataclasses.replace(pause, reason=mask_answer(pause.reason)) for pause in found.paused]
    return dataclasses.replace(found, paused=paused, spool_fault=fault)


def _watch(outbox: Outbox, settings: Settings, found: Status) -> None:
    """Show and refresh until interrupted; a Redis that goes away meanwhile is shown, and waited for."""
    console = screen()
    if not console.is_terminal:
        raise click.UsageError("--watch needs a terminal; a program reads --json as often as it likes")
    # Not KeyboardInterrupt wherever it strikes: while a connection is cleared away Python ignores it.
    interrupted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: interrupted.append(number))
    try:
        with Live(_shown(found, verdict(found)), console=console, auto_refresh=False) as live:
            while True:
                until = time.monotonic() + _REFRESH_SECONDS
                while not interrupted and time.monotonic() < until:
                    time.sleep(_LOOK_SECONDS)
                if interrupted:
                    raise KeyboardInterrupt
                try:
                    found = _read(outbox, settings)
                    live.update(_shown(found, verdict(found)), refresh=True)
                except OutboxUnreachable as error:
                    live.update(plain(f"{error}; trying again", "red"), refresh=True)
    finally:
        signal.signal(signal.SIGINT, before)


def _shown(found: Status, said: Verdict) -> RenderableType:
    parts: list[RenderableType] = [plain(said.text, _STYLES[said.level]), Text()]
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
        *([("of these in quarantine", found.quarantined_lanes)] if found.quarantined_lanes else []),
        ("workers alive", found.workers.alive),
    ]
    if found.no_visitor:
        figures.append(("calls without a visitor, not kept", found.no_visitor))
    rows: list[tuple[str, str]] = [(name, f"{count:,}") for name, count in figures]
    if found.spool_fault:
        rows[[name for name, _ in rows].index("spooled")] = ("spooled", "unknown")
    rows += revenue_rows(found)
    if found.oldest_waiting_seconds is not None:
        rows.append(("oldest waiting", span(found.oldest_waiting_seconds)))
    if found.redis_headroom_bytes is not None:
        rows.append(("room in Redis", f"{found.redis_headroom_bytes / 1_048_576:,.0f} MB"))
    figures_table = table("", "", rows=rows)
    figures_table.show_header = False
    figures_table.columns[1].justify = "right"
    parts.append(figures_table)
    for books in book_tables(found):
        parts += [Text(), books]
    if found.paused:
        parts += [Text(), _paused(found)]
    if found.jumps:
        jumps = [(moment(jump.at_ms), jump.accepted_before, jump.accepted_after) for jump in found.jumps]
        parts += [Text(), table("BOOKS JUMPED BACK", "ACCEPTED BEFORE", "AFTER", rows=jumps)]
    return Group(*parts)


def _paused(found: Status) -> RenderableType:
    rows = []
    for pause in found.paused:
        until = "resumed by hand" if pause.until_ms is None else span(max(0, pause.until_ms - found.now_ms) / 1000)
        rows.append((pause.app, moment(pause.since_ms), until, pause.held, pause.reason))
    return table("PAUSED APP", "SINCE", "NEXT PROBE IN", "VISITORS", "REASON", rows=rows)
