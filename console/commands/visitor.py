"""``insend visitor``: what waits for one visitor and why, and an operator's way past an event that blocks the rest."""

from __future__ import annotations

import uuid
from itertools import islice
from typing import Any

import click
from rich.console import Console

from insend_relay.console.commands.exits import FINDING
from insend_relay.console.commands.letters import event_data, letter_table, shown
from insend_relay.console.commands.opening import open_outbox
from insend_relay.console.commands.remedies import advice
from insend_relay.console.terminal import (
    ago,
    agreed,
    counted,
    json_option,
    personal_option,
    plain,
    print_json,
    screen,
    yes_option,
)
from insend_relay.operations.dead import DeadLetters, Filter, Letter
from insend_relay.operations.discard_lane import LaneDiscard, last_accepted
from insend_relay.operations.iso import iso
from insend_relay.operations.status import read_clock, span
from insend_relay.operations.visitor import LaneView, discard_head, look_at, look_up
from insend_relay.operations.visitor import bury_head as make_dead
from insend_relay.outbox.errors import NotFound
from insend_relay.outbox.heartbeat import read_workers
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.masking import mask_answer, mask_text
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox

_LETTERS_ON_SCREEN = 20
_WORKER_SECONDS = 5.0  # more than a lease: the event of a worker that died is free by then


@click.command(
    epilog="""Examples:

insend visitor 42

insend visitor shop1/v/42 --bury-head

insend visitor shop1/g/7 --discard --all"""
)
@click.argument("uid", metavar="UID|APP/v/UID|APP/g/UID")
@click.option("--bury-head", is_flag=True, help="Make the first waiting event a dead letter, so that the next can go.")
@click.option("--discard", is_flag=True, help="Give the first waiting event up for good.")
@click.option("--all", "whole", is_flag=True, help="With --discard: all events that wait in the lane.")
@yes_option
@personal_option
@json_option
def visitor(
    uid: str, *, bury_head: bool, discard: bool, whole: bool, yes: bool, show_personal: bool, as_json: bool
) -> None:
    """What waits for one visitor or guest and why it is held, and what of theirs is dead.

    Where the same uid has several lanes, a lane's whole name picks one of them, its uid percent-encoded. Exit code 1
    when --discard --all leaves an event that a worker is sending.
    """
    if bury_head and discard:
        raise click.UsageError("give either --bury-head or --discard")
    if whole and not discard:
        raise click.UsageError("--all goes with --discard")
    lane = _lane(uid)
    settings = Settings.from_env()
    with open_outbox(settings) as outbox:
        last_seq = last_accepted(outbox)  # before the count that is shown, so that no more is given up than that
        views = _views(outbox, lane, uid)
        letters = DeadLetters(outbox).scan(Filter(visitor=(lane.uid or None) if lane else uid))
        dead = [letter for letter in letters if lane in {None, letter.lane}]
        now_ms = read_clock(outbox)
        if as_json:
            print_json(_as_dict(uid, views, dead, now_ms, personal=show_personal))
        else:
            _print(uid, views, dead, now_ms, screen(), personal=show_personal)
            if views and not read_workers(outbox, now_ms).alive:
                screen().print(plain("No worker is alive: `insend status` says more.", "bold red"))
        if whole:
            discards = LaneDiscard(_only(uid, views).lane, last_seq)
            _discard_all(outbox, discards, _only(uid, views).waiting, screen(stderr=as_json), settings, yes=yes)
        elif bury_head or discard:
            _remove_head(outbox, _only(uid, views), screen(stderr=as_json), discard=discard, yes=yes)


def _lane(uid: str) -> Lane | None:
    """The lane that is named; None for a mere uid."""
    if "/" not in uid:
        return None
    try:
        return Lane.parse(uid)
    except ValueError:
        raise click.BadParameter("give a uid, or a lane as APP/v/UID (visitor) or APP/g/UID (guest)") from None


def _views(outbox: Outbox, lane: Lane | None, uid: str) -> list[LaneView]:
    """What waits in one lane, or in all lanes of a uid."""
    if lane is None:
        return look_up(outbox, uid)
    view = look_at(outbox, lane)
    return [view] if view else []


def _only(uid: str, views: list[LaneView]) -> LaneView:
    """The one lane that is meant."""
    if not views:
        raise NotFound(f"nothing waits for {uid}: there is no event to take away")
    if len(views) > 1:
        names = ", ".join(str(view.lane) for view in views)
        raise click.UsageError(f"events of {uid} wait in several lanes; name one of them: {names}")
    return views[0]


def _discard_all(
    outbox: Outbox, discards: LaneDiscard, waiting: int, console: Console, settings: Settings, *, yes: bool
) -> None:
    """Give up everything that waits in a lane; events that are accepted after the question stay."""
    lane = discards.lane
    if not agreed(f"Discard for good all {counted(waiting, 'event')} that wait in {lane}?", yes=yes):
        return
    wait_seconds = settings.lease_seconds + _WORKER_SECONDS

    def waits() -> None:
        text = f"{discards.sending} is sending the first event of {lane}"
        console.print(plain(f"{text}; waiting up to {span(wait_seconds)} for its outcome"), soft_wrap=True)

    try:
        discards.run(outbox, wait_seconds=wait_seconds, waits=waits)
    finally:  # also when Redis has gone or Ctrl-C was pressed: so much has been done
        sent = f"; {discards.possibly_sent} of them may have been sent" if discards.possibly_sent else ""
        console.print(plain(f"{counted(discards.discarded, 'event')} of {lane} discarded{sent}"), soft_wrap=True)
    if discards.sending:
        text = f"{discards.sending} is still sending the first event: run the command again to discard it if it fails"
        console.print(plain(text), soft_wrap=True)
        raise click.exceptions.Exit(FINDING)


def _remove_head(outbox: Outbox, view: LaneView, console: Console, *, discard: bool, yes: bool) -> None:
    verb = "Discard for good" if discard else "Make a dead letter of"
    if not agreed(f"{verb} the first of {counted(view.waiting, 'event')} in {view.lane}?", yes=yes):
        return
    again = look_at(outbox, view.lane)
    if again is None or _head_id(again) != _head_id(view):
        raise NotFound(f"the first event of {view.lane} has gone meanwhile: look again")
    removed = (discard_head if discard else make_dead)(outbox, view.lane)
    done = "discarded" if discard else "now a dead letter"
    console.print(plain(f"{removed}: {done}; the next of {view.lane} can go"))


def _head_id(view: LaneView) -> str:
    return str(uuid.UUID(bytes=view.head.id)) if view.head else ""


def _print(
    uid: str, views: list[LaneView], dead: list[Letter], now_ms: int, console: Console, *, personal: bool
) -> None:
    if not views:
        console.print(plain(f"Nothing waits for {uid}."))
    for view in views:
        head = _head(view, now_ms, personal=personal)
        console.print(plain(f"{view.lane}: {counted(view.waiting, 'event')} waiting", "bold"))
        if view.head:
            since = ago(view.head.accepted_at_ms, now_ms)
            console.print(plain(f"  first: {head['type']} {head['id']}, accepted {since}"), soft_wrap=True)
        console.print(plain(f"  why:   {head['why']}"), soft_wrap=True)
        if head["fix"]:
            console.print(plain(f"  fix:   {head['fix']}"), soft_wrap=True)
    if dead:
        console.print(plain(f"{counted(len(dead), 'dead letter')}:", "bold"))
        console.print(letter_table(islice(dead, _LETTERS_ON_SCREEN), now_ms=now_ms))
        if len(dead) > _LETTERS_ON_SCREEN:
            console.print(f"... and {len(dead) - _LETTERS_ON_SCREEN:,} more: `insend dead list --visitor {uid}`")
    else:
        console.print("No dead letters.")


def _as_dict(uid: str, views: list[LaneView], dead: list[Letter], now_ms: int, *, personal: bool) -> dict[str, Any]:
    lanes = [
        {
            "lane": str(view.lane),
            "waiting": view.waiting,
            "attempts": view.attempts,
            "due_in_ms": view.due_in_ms,
            "leased_by": view.leased_by,
            "app_paused": view.paused is not None,
            "unread_version": view.unread_version,
            "head": _head(view, now_ms, personal=personal),
        }
        for view in views
    ]
    return {"uid": uid, "lanes": lanes, "dead": [shown(letter, personal=personal) for letter in dead]}


def _head(view: LaneView, now_ms: int, *, personal: bool) -> dict[str, Any]:
    """The first event of a lane, and what is known of it; a tracker's words masked unless ``personal``."""
    data = event_data(view.head.payload) if view.head else None
    kind = str(data.get("type", "?")) if isinstance(data, dict) else "?"

    why, outcome = view.why, view.last_outcome
    if not personal:
        # Only the tracker's words are masked: a worker's name, celery@host, is no e-mail address.
        outcome = mask_answer(outcome, data)
        for said in (view.last_outcome, view.paused.reason if view.paused else ""):
            why = why.replace(said, mask_answer(said, data)) if said else why
    return {
        "id": _head_id(view),
        "type": mask_text(kind),
        "accepted_at": iso(view.head.accepted_at_ms) if view.head else None,
        "last_outcome": outcome,
        "why": why,
        "fix": _fix(view, now_ms),
    }


def _fix(view: LaneView, now_ms: int) -> str | None:
    """What a person has to do for the first event of a lane; None when there is nothing to do."""
    if view.paused:
        return advice(view.paused, now_ms)
    return "Start a worker of that release." if view.unread_version is not None else None
