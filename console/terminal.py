"""What a person reads: tables and colour on a terminal, plain text in a pipe; and what a program reads: JSON.

Colour is for terminals only and obeys NO_COLOR. Text that came from elsewhere (a tracker's answer, an event) goes
through ``plain``: it may neither colour our tables nor send control sequences to the terminal.
"""

from __future__ import annotations

import json
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from insend_relay.operations.iso import utc, written
from insend_relay.operations.status import span

Option = TypeVar("Option", bound=Callable[..., Any])
_PIPE_WIDTH = 200  # a pipe has no width of its own; rows that are cut at 80 columns could not be searched


def screen(*, stderr: bool = False) -> Console:
    """A console on the present stdout or stderr."""
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    return console


def plain(text: str, style: str = "") -> Text:
    """Foreign text as it may be shown: no markup, no control characters."""
    return Text("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text), style=style)


def table(*columns: str, rows: Iterable[Sequence[object]]) -> Table:
    """A table; numbers stand to the right, and every cell is foreign text."""
    result = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    cells = [list(row) for row in rows]
    for at, column in enumerate(columns):
        numbers = bool(cells) and all(isinstance(row[at], int) for row in cells)
        result.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in cells:
        result.add_row(*(plain(f"{cell:,}" if isinstance(cell, int) else str(cell)) for cell in row))
    return result


def print_json(value: object) -> None:
    """One JSON value on one line, ASCII only: it survives every terminal and every pipe."""
    click.echo(json.dumps(value, default=str))


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """``1 event``, ``1,200 events``."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def moment(ms: int) -> str:
    """A point in time, in UTC; a number of ms that is no date is shown as it is."""
    return written(ms, "%Y-%m-%d %H:%M:%S UTC")


def ago(ms: int, now_ms: int) -> str:
    """How long ago a point in time was: ``7 s ago``; as ``moment`` when it is no date. The future counts as now."""
    return f"{span((now_ms - ms) / 1000)} ago" if utc(ms) else moment(ms)


def agreed(question: str, *, yes: bool) -> bool:
    """Ask before something that cannot be taken back; UsageError when there is nobody to ask and no ``--yes``."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Nobody can be asked here: add --yes to go on.")
    while True:
        answer = _answer(f"{question} [y/N]: ").strip().lower()
        if answer in {"y", "yes"}:
            return True
        if answer in {"", "n", "no"}:
            return False
        click.echo("Please answer y or n.", err=True)


def _answer(prompt: str) -> str:
    """A line from the terminal; Abort at its end.

    Not by ``input``: a Ctrl-C that comes between its prompt and its reading is slept through until the next key.
    """
    woken, wakes = socket.socketpair()
    with woken, wakes:
        wakes.setblocking(False)
        before = signal.set_wakeup_fd(wakes.fileno())
        try:
            click.echo(prompt, nl=False, err=True)
            select.select([sys.stdin, woken], [], [])  # a signal is heard here, whenever it came
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            raise click.Abort from None
        finally:
            signal.set_wakeup_fd(before)
    if not line:
        raise click.Abort
    return line


def yes_option(function: Option) -> Option:
    """``--yes``, for what is asked before it is done."""
    return click.option("--yes", is_flag=True, help="Do not ask.")(function)


def json_option(function: Option) -> Option:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="JSON, for a program.")(function)


def personal_option(function: Option) -> Option:
    """``--show-personal``."""
    return click.option("--show-personal", is_flag=True, help="Show personal data instead of masking it.")(function)
