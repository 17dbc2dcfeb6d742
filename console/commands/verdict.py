"""The first line of ``insend status``: whether there is something to do, what it is, and whether that is a finding.

Each check looks for one kind of situation, the worst first; the first that finds something decides. "Nothing to do" is
said only of a failure that ends by itself, and has not lasted long, while a worker sends probes. docs/cli.md has the
table of situations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from insend_relay.console.commands.remedies import LONG_SECONDS, advice, newer_advice
from insend_relay.console.terminal import counted
from insend_relay.operations.iso import written
from insend_relay.operations.status import Paused, Status, span

SOON_SECONDS = 7_200  # a Redis that is full within this time needs a person
STUCK_SECONDS = 60  # an event moves on from a spool within seconds once Redis takes it
_REASON_CHARACTERS = 90  # of a line of a terminal


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the first line says.

    Attributes:
        text: The line.
        level: ``ok``; ``notice``: worth knowing, no person is needed now; ``finding``: a person is needed, exit code 1.
    """

    text: str
    level: Literal["ok", "notice", "finding"]


def verdict(status: Status) -> Verdict:
    """The line that decides whether an operator has anything to do."""
    for check in (
        _unbalanced,
        _jumped_back,
        _refused,
        _without_worker,
        _paused_for_a_person,
        _clock_set_back,
        _stalled,
        _of_a_newer_release,
        _soon_full,
        _spool_unusable,
        _spool_stuck,
        _undelivered,
        _paused,
        _left_to_a_newer_worker,
        _dead_letters,
        _unused,
    ):
        found = check(status)
        if found is not None:
            return found
    return Verdict(f"OK: {_waiting(status)}{_full(status)}", "ok")


def _finding(text: str) -> Verdict:
    return Verdict(text, "finding")


def _unbalanced(status: Status) -> Verdict | None:
    return None if status.balanced else _finding("BOOKS DO NOT BALANCE: run `insend audit`")


def _jumped_back(status: Status) -> Verdict | None:
    if not status.jumps:
        return None
    last = status.jumps[0]
    numbers = f"accepted went from {last.accepted_before:,} to {last.accepted_after:,}"
    more = f" and {counted(len(status.jumps) - 1, 'time')} before" if len(status.jumps) > 1 else ""
    lost = f"Redis has lost events that it had accepted ({last.waiting_before:,} were waiting at the last heartbeat)"
    return _finding(
        f"BOOKS JUMPED BACK at {_moment(last.at_ms, status.now_ms)} UTC ({numbers}){more}: {lost}. Find out why; "
        "`insend status --acknowledge` ends this message."
    )


def _refused(status: Status) -> Verdict | None:
    if status.refusal is None:
        return None
    if not status.refusal.full:
        return _finding(f"REDIS REFUSES NEW EVENTS, {_waiting(status)}: {status.refusal.text}")
    line = f"REDIS IS FULL: it refuses new events, {_waiting(status)}. Raise Redis's maxmemory."
    status = replace(status, full_in_seconds=None)  # it is full
    cause = _without_worker(status) or _paused_for_a_person(status) or _stalled(status)
    cause = cause or _of_a_newer_release(status)
    return _finding(f"{line} {cause.text}" if cause else line)


def _without_worker(status: Status) -> Verdict | None:
    if status.workers.alive or not status.waiting:
        return None
    last = status.workers
    todo = "Start a worker with this INSEND_REDIS_URL and INSEND_NAMESPACE"
    if last.last_seconds is not None:
        todo += f", or restart {last.last} if it hangs: its last heartbeat is {span(last.last_seconds)} old"
    return _finding(f"NO WORKER IS ALIVE: {_waiting(status)}{_full(status)}, nothing lost. {todo}.{_more_room(status)}")


def _paused_for_a_person(status: Status) -> Verdict | None:
    """An app whose failure does not end by itself, or has lasted long."""
    paused = [pause for pause in status.paused if advice(pause, status.now_ms)]
    if not paused:
        return None
    first = min(paused, key=lambda pause: pause.since_ms)
    return _finding(f"{_paused_line(status, first)}. {advice(first, status.now_ms)}{_more_room(status)}")


def _clock_set_back(status: Status) -> Verdict | None:
    """Only a moment of it is seen where a worker is well."""
    if not any(status.far_ahead):
        return None
    ahead = f"{counted(status.far_ahead.lanes, 'visitor')} scheduled too far ahead"
    todo = "A worker makes them due again within a second. Run NTP where Redis runs."
    return _finding(f"REDIS'S CLOCK WAS SET BACK: {_waiting(status)}, {ahead}. {todo}")


def _stalled(status: Status) -> Verdict | None:
    if not status.stalled:
        return None
    alive = counted(status.workers.alive, "worker")
    why = f"{alive} alive, and none sends: see the workers' logs and restart them"
    return _finding(f"STALLED: {_waiting(status)}, {why}.")


def _of_a_newer_release(status: Status) -> Verdict | None:
    """As after a rollback: the workers of the newer release have stopped, some of its events wait."""
    todo = newer_advice(status.newer, status.workers.reads) if status.newer else None
    return _finding(f"{_newer_line(status)}{_full(status)}, nothing lost. {todo}{_more_room(status)}") if todo else None


def _left_to_a_newer_worker(status: Status) -> Verdict | None:
    if status.newer is None:
        return None
    return Verdict(f"{_newer_line(status)}. Nothing to do while workers of that release are being started.", "notice")


def _newer_line(status: Status) -> str:
    """The start of a line about events of a newer release."""
    lanes = status.newer.lanes if status.newer else 0
    return f"A NEWER RELEASE WROTE EVENTS of {counted(lanes, 'visitor')} that no worker can read: {_waiting(status)}"


def _soon_full(status: Status) -> Verdict | None:
    todo = _more_room(status)
    if status.full_in_seconds is None or not todo:
        return None
    if status.paused:
        return _finding(f"{_paused_line(status, _first(status.paused))}.{todo}")
    return _finding(f"REDIS FULL in ~{span(status.full_in_seconds)}: {_waiting(status)}.{todo}")


def _undelivered(status: Status) -> Verdict | None:
    """The breaker does not open for the failures of a single visitor, who may be the only one of a quiet shop."""
    failing = status.failing
    if failing is None or failing.seconds < LONG_SECONDS:
        return None
    return _finding(
        f"NOTHING DELIVERED for {span(failing.seconds)} for app {failing.lane.app}: {_waiting(status)}. "
        f"`insend visitor {failing.lane}` shows the tracker's answer; `insend doctor` tests the connection."
    )


def _paused(status: Status) -> Verdict | None:
    if not status.paused:
        return None
    first = _first(status.paused)
    todo = f"`insend resume {first.app}` ends it." if first.operator else "Nothing to do."
    return Verdict(f"{_paused_line(status, first)}. {todo}", "notice")


def _spool_unusable(status: Status) -> Verdict | None:
    if status.spool_fault is None:
        return None
    todo = "With these settings no event can be kept while Redis is away"
    return _finding(f"SPOOL UNUSABLE: {status.spool_fault}. {todo}. In Redis: {_waiting(status)}.")


def _spool_stuck(status: Status) -> Verdict | None:
    if not status.spooled or status.spooled_seconds is None or status.spooled_seconds < STUCK_SECONDS:
        return None
    events = counted(status.spooled, "event")
    return _finding(
        f"SPOOL STUCK: {events} of this machine not in Redis for {span(status.spooled_seconds)}, although it takes "
        "events: run `insend spool flush`."
    )


def _dead_letters(status: Status) -> Verdict | None:
    return Verdict(f"DEAD LETTERS: {status.dead:,} (see `insend dead groups`)", "notice") if status.dead else None


def _unused(status: Status) -> Verdict | None:
    """Where a name is mistyped, nothing waits and no worker is missed."""
    if not status.unused:
        return None
    where = ", or INSEND_REDIS_URL if events should be here"
    if status.elsewhere:
        where = f" (workers are alive in this Redis in: {', '.join(status.elsewhere)})"
    return Verdict(
        "NEVER USED: no event was ever accepted, and no worker ever ran, in this INSEND_NAMESPACE. Check its "
        f"name{where}.",
        "notice",
    )


def _first(paused: list[Paused]) -> Paused:
    """The oldest pause; one by an operator before the others."""
    return min([pause for pause in paused if pause.operator] or paused, key=lambda pause: pause.since_ms)


def _paused_line(status: Status, first: Paused) -> str:
    others = len(status.paused) - 1
    why = "by an operator" if first.operator else _shortened(first.reason)
    more = f" and {others} more app{'s' if others > 1 else ''}" if others else ""
    since = _moment(first.since_ms, status.now_ms)
    line = f"PAUSED since {since} UTC ({why}){more}: {status.waiting:,} waiting, nothing lost"
    if first.until_ms is not None:
        left = (first.until_ms - status.now_ms) / 1000
        line += f", next probe in {span(left)}" if left > 0 else ", probing now"
    line += _full(status)
    return line + (f", {counted(status.dead, 'dead letter')}" if status.dead else "")


def _waiting(status: Status) -> str:
    if not status.waiting:
        return "nothing waiting"
    text = f"{status.waiting:,} waiting"
    if status.oldest_waiting_seconds is not None:
        text += f", oldest {span(status.oldest_waiting_seconds)}"
    if status.held_lanes:
        text += f", {counted(status.held_lanes, 'visitor')} being tried again"
    return text


def _full(status: Status) -> str:
    return "" if status.full_in_seconds is None else f", Redis full in ~{span(status.full_in_seconds)}"


def _more_room(status: Status) -> str:
    soon = status.full_in_seconds is not None and status.full_in_seconds < SOON_SECONDS
    return " Raise Redis's maxmemory." if soon else ""


def _moment(ms: int, now_ms: int) -> str:
    """A time of today, or with its date."""
    day = "%Y-%m-%d"
    return written(ms, "%H:%M" if written(ms, day) == written(now_ms, day) else f"{day} %H:%M")


def _shortened(text: str) -> str:
    text = text or "no reason given"
    return text if len(text) <= _REASON_CHARACTERS else text[: _REASON_CHARACTERS - 1] + "…"
