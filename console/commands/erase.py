"""``insend erase``: everything of one person is discarded, for a request to be forgotten."""

from __future__ import annotations

import sys

import click
from rich.console import Console

from insend_relay.console.commands.erase_report import as_dict, print_erased, print_report, print_survey, uids
from insend_relay.console.commands.exits import FINDING
from insend_relay.console.commands.opening import open_outbox
from insend_relay.console.terminal import (
    agreed,
    counted,
    json_option,
    plain,
    print_json,
    screen,
    yes_option,
)
from insend_relay.operations.erase import Erasure, Report
from insend_relay.operations.erase_survey import Survey, survey
from insend_relay.outbox.errors import RelayError
from insend_relay.outbox.keys import APP_KEY
from insend_relay.outbox.person import Person
from insend_relay.outbox.settings import MOST, Settings
from insend_relay.outbox.store import Outbox
from insend_relay.spool.erase import SpoolErasure
from insend_relay.spool.spool import Spool

_WORKER_SECONDS = 5.0  # more than a lease: the event of a worker that died is free by then


@click.command(
    epilog="""Examples:

insend erase 42

insend erase - --app shop --yes < uid.txt"""
)
@click.argument("uid", metavar="UID|-")
@click.option("--app", help="Of this app only. Without it, of all apps.")
@click.option(
    "--wait",
    "wait_seconds",
    metavar="SECONDS",
    type=click.IntRange(min=0, max=MOST),
    help="How long to wait for an event that is being sent; INSEND_LEASE_SECONDS + 5 otherwise.",
)
@yes_option
@json_option
def erase(uid: str, *, app: str | None, wait_seconds: int | None, yes: bool, as_json: bool) -> None:
    """Discard everything of one person: what waits, what is dead, and what lies in this machine's spool.

    UID is a visitor's or a guest's; the guests who became the visitor are erased too. "-" reads it from stdin, so that
    it stands neither in the process list nor in the shell's history. To run it again is safe, and goes on where it
    stopped. Exit code 1 when something of the person is left.
    """
    settings = Settings.from_env()
    uid = _uid(uid)
    if app is not None and not APP_KEY.match(app):
        raise click.BadParameter("give the app's key: letters, digits, - and _", param_hint="--app")
    console = screen(stderr=as_json)
    with open_outbox(settings) as outbox:
        spool = _spool(settings, outbox)
        found = survey(outbox, spool, uid, app)
        while True:
            print_survey(found, settings, console)
            if not agreed(_question(found, app), yes=yes):
                return
            if yes:
                break
            # A login while the question waited would be erased, and with it the only word on who its guest became.
            asked, found = found, survey(outbox, spool, uid, app)
            if found.person == asked.person:
                break
            console.print("Other events came in meanwhile, and now others belong to this person:")
        wait = settings.lease_seconds + _WORKER_SECONDS if wait_seconds is None else wait_seconds
        report = _run(Erasure(outbox, spool), found.person, wait, console)
    if as_json:
        print_json(as_dict(found, report, settings))
    else:
        print_report(found.person, report, console)
    if not report.complete or found.person.undecided:
        raise click.exceptions.Exit(FINDING)


def _uid(given: str) -> str:
    """The uid that was given or stands on stdin."""
    if given == "-":
        if sys.stdin.isatty():
            click.echo("UID: ", nl=False, err=True)
            given = sys.stdin.readline().strip()
        else:
            given = sys.stdin.read().strip()
    if not given or not given.isprintable() or len(given.split()) != 1:
        raise click.UsageError("give one uid, without spaces and control characters")
    if "/" in given:
        raise click.UsageError("give the uid alone, not a lane; --app names the app")
    return given


def _spool(settings: Settings, outbox: Outbox) -> SpoolErasure | None:
    """This machine's spool; None when the settings name none or it was never used. Makes no file."""
    spool = Spool.of(settings)
    return SpoolErasure(spool, outbox) if spool is not None and spool.exists() else None


def _run(erasure: Erasure, person: Person, wait_seconds: float, console: Console) -> Report:
    try:
        with console.status("Erasing, and waiting for events that are being sent"):
            return erasure.run(person, wait_seconds=wait_seconds)
    except (RelayError, KeyboardInterrupt):
        print_erased(erasure.report, console)  # another run does not know of these events
        console.print(plain(f"The erasure is not complete. To go on, run it again for {uids(person)}."))
        raise


def _question(found: Survey, app: str | None) -> str:
    where = f"app {app}" if app else "all apps"
    total = sum((counts.total() for counts in found.counts.values()), found.unreadable)
    if not total:  # a yes leaves tombstones all the same
        return (
            f"For 90 days, discard events of {found.person.uid} in {where} that were made before now and come in from "
            "the spools of other machines?"
        )
    return f"Discard {counted(total, 'event')} of {found.person.uid} in {where} for good?"
