"""``insend pause`` and ``insend resume``: hold an app back, and let it go on."""

from __future__ import annotations

from collections.abc import Callable

import click

from insend_relay.console.commands.opening import open_outbox
from insend_relay.console.terminal import agreed, counted, moment, plain, screen, yes_option
from insend_relay.operations.status import read_paused
from insend_relay.outbox.errors import NotFound
from insend_relay.outbox.store import Outbox


@click.command(epilog="Example: insend pause shop1")
@click.argument("app", required=False)
@yes_option
def pause(app: str | None, *, yes: bool) -> None:
    """Hold an app back: its events are kept and none is sent, until `insend resume`.

    Without APP: every app.
    """
    _change(app, "Pause", _pause, yes=yes)


@click.command(epilog="Example: insend resume shop1")
@click.argument("app", required=False)
@yes_option
def resume(app: str | None, *, yes: bool) -> None:
    """Let an app go on at once, whatever held it back: an operator's pause or an outage.

    Without APP: every app.
    """
    _change(app, "Resume", _resume, yes=yes)


def _pause(outbox: Outbox, app: str) -> str:
    before = read_paused(outbox, app)
    outbox.pause(app)
    if before and before.operator:
        return f"was paused already, since {moment(before.since_ms)}"
    return "paused: its events are kept, none is sent until `insend resume`"


def _resume(outbox: Outbox, app: str) -> str:
    if read_paused(outbox, app) is None:
        return "was not paused"  # and is left alone: a resume begins with a small start
    outbox.resume(app)
    return "resumed: it goes on at once"


def _change(app: str | None, verb: str, change: Callable[[Outbox, str], str], *, yes: bool) -> None:
    """Do to one app, or to all, what ``change`` does and says."""
    with open_outbox() as outbox:
        known = outbox.apps()
        if app is not None and app not in known:
            listed = ", ".join(sorted(known)) or "none yet: an app is known from its first event on"
            raise NotFound(f"no app {app} here. Known apps: {listed}")
        apps = known if app is None else [app]
        if not apps:
            screen().print("No app has had an event here yet: nothing to do.")
            return
        question = f"{verb} {counted(len(apps), 'app')} ({', '.join(sorted(apps))})?"
        if len(apps) > 1 and not agreed(question, yes=yes):
            return
        for name in sorted(apps):
            screen().print(plain(f"{name}: {change(outbox, name)}"))
