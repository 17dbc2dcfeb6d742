"""``insend spool``: what lies on this machine's disk because Redis could not take it, and moving it on by hand."""

from __future__ import annotations

import time

import click
from rich.console import Console

from insend_relay.console.commands.exits import FINDING
from insend_relay.console.commands.opening import open_outbox
from insend_relay.console.terminal import counted, json_option, moment, plain, print_json, screen
from insend_relay.operations.status import span
from insend_relay.outbox.errors import NotFound
from insend_relay.outbox.settings import Settings
from insend_relay.spool.flush import flush as move_on
from insend_relay.spool.spool import Spool, Spooled

_NO_SPOOL = "INSEND_SPOOL is not set here: name the file that the web application names"


@click.group(invoke_without_command=True, epilog="Examples: insend spool, insend spool flush")
@json_option
@click.pass_context
def spool(ctx: click.Context, *, as_json: bool) -> None:
    """What lies on this machine's disk because Redis could not take it.

    Producers move it on by themselves as soon as Redis takes events again, and so do workers that name the same
    INSEND_SPOOL. Exit code 1 while there is something in it.
    """
    if ctx.invoked_subcommand:
        return
    settings = Settings.from_env()
    found = look(settings)
    if found is None:
        raise click.UsageError(_NO_SPOOL)
    if as_json:
        print_json({"file": settings.spool, **found._asdict()})
    else:
        _print(settings.spool, found, screen())
    if found.events:
        raise click.exceptions.Exit(FINDING)


@spool.command(epilog="Example: insend spool flush")
def flush() -> None:
    """Move everything on into Redis now, in order."""
    settings = Settings.from_env()
    kept = Spool.of(settings)
    if kept is None:
        raise click.UsageError(_NO_SPOOL)
    with open_outbox(settings) as outbox, kept.flushing() as mine:
        if not mine:
            raise NotFound("a producer or a worker is moving it on right now: look again in a moment")
        moved = move_on(kept, outbox, durability=settings.durability)
    screen().print(f"{counted(moved, 'event')} moved on into Redis")


def look(settings: Settings) -> Spooled | None:
    """What lies in the spool that the settings name; None when they name none. Makes no file."""
    kept = Spool.of(settings)
    if kept is None:
        return None
    return kept.look() if kept.exists() else Spooled(0, None, 0)


def _print(file: str, found: Spooled, console: Console) -> None:
    if found.oldest_at_ms is None:
        console.print(plain(f"Nothing lies in {file}.", "green"))
        return
    age = span(max(0.0, time.time() - found.oldest_at_ms / 1000))
    console.print(plain(f"{counted(found.events, 'event')} in {file}, the oldest for {age}", "bold yellow"))
    console.print(plain(f"first kept {moment(found.oldest_at_ms)}, {found.bytes / 1_048_576:,.1f} MB on disk"))
    console.print("They go on by themselves once Redis takes events; `insend spool flush` does it now.")
