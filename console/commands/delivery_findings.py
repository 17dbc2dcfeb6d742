"""What ``insend doctor`` says about delivery as it stands: the workers, the paused apps, the books, dead letters."""

from __future__ import annotations

from collections.abc import Iterator

from insend_relay.console.commands.finding import Finding
from insend_relay.console.commands.remedies import LONG_SECONDS, advice, newer_advice
from insend_relay.console.terminal import counted, moment
from insend_relay.operations.doctor import Facts
from insend_relay.operations.newer import Newer
from insend_relay.operations.status import Paused, Status, span
from insend_relay.outbox.masking import mask_answer


def delivery_findings(facts: Facts) -> list[Finding]:
    """All findings about delivery, in the order in which a person wants them; none when Redis does not say."""
    status = facts.status
    if status is None:
        return []
    return [*_books(status), *_entry(status), _workers(status, facts.other_namespaces), *_delivery(status)]


def _books(status: Status) -> Iterator[Finding]:
    if not status.balanced:
        yield Finding("books", "bad", "they do not balance: run `insend audit` and keep its output")
    for jump in status.jumps:
        numbers = f"from {jump.accepted_before:,} to {jump.accepted_after:,} at {moment(jump.at_ms)}"
        text = f"accepted went back {numbers}: Redis has lost events; `insend status --acknowledge` ends this message"
        yield Finding("books", "bad", text)
    if status.balanced and not status.jumps:
        yield Finding("books", "good", "they balance")


def _entry(status: Status) -> Iterator[Finding]:
    if status.refusal and not status.refusal.full:  # a full one is a finding about memory
        yield Finding("new events", "bad", f"refused: {status.refusal.text}")


def _workers(status: Status, elsewhere: list[str]) -> Finding:
    workers = status.workers
    if workers.alive and status.stalled:
        text = f"{workers.alive} alive, and none sends what waits: see their logs and restart them"
        return Finding("workers", "bad", text)
    if workers.alive:
        return Finding("workers", "good", f"{workers.alive} alive")
    text = "none is alive in this INSEND_NAMESPACE"
    if elsewhere:
        text += f" (alive in this Redis: those of {', '.join(elsewhere)})"
    if workers.last_seconds is not None:
        text += f"; the last heartbeat is {span(workers.last_seconds)} old ({workers.last})"
    if not status.waiting:
        idle = "nothing was ever accepted in it: is it the right one?" if status.unused else "nothing waits"
        return Finding("workers", "look", f"{text}; {idle}")
    return Finding("workers", "bad", f"{text}; {counted(status.waiting, 'event')} waiting: start one")


def _delivery(status: Status) -> Iterator[Finding]:
    for paused in status.paused:
        yield _pause(paused, status.now_ms)
    if status.dead:
        letters = counted(status.dead, "dead letter")
        yield Finding("delivery", "look", f"{letters}: `insend dead groups` says why, `insend replay` sends them again")
    failing = status.failing
    long = failing is not None and failing.seconds >= LONG_SECONDS
    if failing is not None and long:
        text = f"nothing delivered for {span(failing.seconds)} for app {failing.lane.app}: "
        yield Finding("delivery", "bad", f"{text}`insend visitor {failing.lane}` shows the tracker's answer")
    if status.newer:
        yield _newer(status.newer, status.workers.reads)
    if not status.paused and not status.dead and not long and not status.newer:
        yield Finding("delivery", "good", "no app is paused and no event is dead")


def _newer(newer: Newer, reads: int) -> Finding:
    text = f"a newer release wrote events of {counted(newer.lanes, 'visitor')} that no worker can read"
    if todo := newer_advice(newer, reads):
        return Finding("delivery", "bad", f"{text}. {todo}")
    return Finding("delivery", "look", f"{text}; they go when a worker of that release has started")


def _pause(paused: Paused, now_ms: int) -> Finding:
    if paused.operator:
        text = f"an operator paused app {paused.app}: `insend resume {paused.app}` ends it"
        return Finding("delivery", "look", text)
    answer = mask_answer(paused.reason)
    if todo := advice(paused, now_ms):
        return Finding("delivery", "bad", f"app {paused.app} is paused ({answer}). {todo}")
    return Finding("delivery", "look", f"app {paused.app} is paused ({answer}); probes are sent until that ends")
