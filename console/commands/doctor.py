"""``insend doctor``: what could cost events one day, with what is at stake and the fix; a line each."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import click

from insend_relay.console.commands.delivery_findings import delivery_findings
from insend_relay.console.commands.exits import FINDING, needs
from insend_relay.console.commands.finding import Finding
from insend_relay.console.commands.redis_findings import redis_findings
from insend_relay.console.commands.verdict import STUCK_SECONDS
from insend_relay.console.terminal import counted, json_option, plain, print_json, screen
from insend_relay.operations.doctor import read_facts
from insend_relay.operations.status import span
from insend_relay.outbox.connection import connect
from insend_relay.outbox.errors import SpoolError
from insend_relay.outbox.settings import Settings, unknown_variables
from insend_relay.outbox.store import Outbox
from insend_relay.outbox.unknown_variables import UnknownVariable
from insend_relay.spool.spool import Spool

_STYLES = {"good": "green", "look": "yellow", "bad": "bold red", "unseen": "cyan"}
_WORDS = {"good": "good", "look": "look", "bad": "BAD", "unseen": "cannot see"}


@click.command(epilog="Example: insend doctor")
@json_option
def doctor(*, as_json: bool) -> None:
    """What could cost events one day: Redis, the workers, the spool and the connection to the tracker.

    Exit code 1 when something is BAD: then events may be lost, or are not delivered. Sends no event.
    """
    settings = Settings.from_env()
    findings = [_tracker(settings), *_variables(unknown_variables())]
    takes_events = False
    try:
        with connect(settings.redis_url) as client:  # not open_outbox: what that refuses is a finding here
            facts = read_facts(Outbox(client, namespace=settings.namespace), settings.durability)
            findings = [*redis_findings(facts, settings), *delivery_findings(facts), *findings]
            takes_events = facts.status is not None and facts.status.refusal is None
    finally:  # with Redis away the rest is worth knowing all the more
        findings.append(_spool(settings, redis_takes_events=takes_events))
        _print(findings, as_json=as_json)
    if any(each.state == "bad" for each in findings):
        raise click.exceptions.Exit(FINDING)


def _print(findings: list[Finding], *, as_json: bool) -> None:
    if as_json:
        print_json([{"about": each.about, "state": each.state, "text": each.text} for each in findings])
        return
    console = screen()
    for each in findings:
        said = plain(f"{_WORDS[each.state]:10} ", _STYLES[each.state])
        console.print(said, plain(f"{each.about:12} {each.text}"), sep="", soft_wrap=True)


def _variables(unknown: Sequence[UnknownVariable]) -> list[Finding]:
    """The environment: a misspelt ``INSEND_SPOOL`` is a shop without a spool."""
    if not unknown:
        return [Finding("variables", "good", "each INSEND_* variable is a setting, or a platform's own")]
    return [
        Finding("variables", "bad" if each.near else "look", f"{each}. Correct its name, or remove it")
        for each in unknown
    ]


def _tracker(settings: Settings) -> Finding:
    """Whether a worker here could reach the tracker."""
    try:
        with needs("worker", "gevent", "httptools", "requests", "urllib3"):
            from insend_relay.console.commands.tracker_check import check_tracker  # noqa: PLC0415 - producers do without
    except click.UsageError:
        text = "only workers send to it: run `insend doctor` where they run (insend-relay[worker])"
        return Finding("tracker", "unseen", text)
    return check_tracker(settings)


def _spool(settings: Settings, *, redis_takes_events: bool) -> Finding:
    spool = Spool.of(settings)
    if spool is None:
        return Finding(
            "spool", "look", "none: while Redis is away calls raise NotAccepted; producers may name one by INSEND_SPOOL"
        )
    try:
        if not spool.exists():
            return _spool_to_be_made(spool.path)
        return _spool_file(spool, redis_takes_events=redis_takes_events)
    except SpoolError as error:
        return Finding("spool", "bad", f"{error}. Events that Redis cannot take are refused")


def _spool_to_be_made(path: Path) -> Finding:
    """A file of that name: its folder too, and then the name may be mistyped."""
    there = next(parent for parent in path.parents if parent.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        return Finding("spool", "bad", f"nothing can be written below {there}: name another INSEND_SPOOL")
    if there != path.parent:
        text = f"the folder {path.parent} does not exist and would be made with {path.name}: check INSEND_SPOOL"
        return Finding("spool", "look", text)
    return Finding("spool", "good", f"{path} can be made")


def _spool_file(spool: Spool, *, redis_takes_events: bool) -> Finding:
    spool.lower(deadline=time.monotonic() + 1.0)
    found = spool.look()
    mode = Path(spool.path).stat().st_mode & 0o077
    if mode:
        return Finding("spool", "look", f"{spool.path} can be read by others, and holds personal data: chmod 600")
    if found.oldest_at_ms is not None:
        events, seconds = counted(found.events, "event"), time.time() - found.oldest_at_ms / 1000
        if redis_takes_events and seconds >= STUCK_SECONDS:
            text = (
                f"{events} in {spool.path} for {span(seconds)}, although Redis takes events: run `insend spool flush`"
            )
            return Finding("spool", "bad", text)
        return Finding("spool", "look", f"{events} in {spool.path}: see `insend spool`")
    return Finding("spool", "good", f"{spool.path} is writable and empty")
