"""An event that two workers have died with is posted while its process posts nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from delivering import APP, Append, drained
from lanes import come_due
from waiting import wait_until

from insend_relay.console.sandbox.sandbox import Sandbox
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.store import Outbox
from insend_relay.outbox.trying import Tried

POST_SECONDS = 0.2  # what the tracker takes for each; a slow machine only makes it more
DEADLY = Lane(APP, "v", "deadly")


def two_die_with(append: Append, outbox: Outbox) -> str:
    """An event whose third holder holds it still."""
    event_id = append("deadly", 0)
    for holder in ("a worker that dies", "another one", "the third"):
        (held,) = outbox.claim(holder, 1, lease_ms=60_000)
        assert held.lane == str(DEADLY)
        if holder != "the third":
            come_due(outbox, DEADLY)
    return event_id


def test_an_event_that_two_workers_died_with_is_posted_alone_and_holds_nobody_back(
    append: Append, delivering: Callable[..., Any], outbox: Outbox, sandbox: Sandbox
) -> None:
    two_die_with(append, outbox)
    append("deadly", 1)
    for visitor in range(8):
        for number in range(4):
            append(str(visitor), number)
    sandbox.misbehave(delay=POST_SECONDS)
    with delivering():
        wait_until(lambda: sandbox.requests)
        come_due(outbox, DEADLY)
        books = drained(outbox)
    (deadly,) = [r for r in sandbox.requests if (r.visitor_uid, r.properties["number"]) == ("deadly", 0)]
    others = [request for request in sandbox.requests if request is not deadly]
    assert all(abs(other.arrived_at - deadly.arrived_at) >= POST_SECONDS for other in others)
    assert any(other.arrived_at < deadly.arrived_at for other in others), "it had to wait for them"
    assert (books["delivered"], len(sandbox.requests), books.get("dead", 0)) == (34, 34, 0)


def test_a_process_that_makes_room_goes_on_when_another_has_taken_the_event(
    append: Append, delivering: Callable[..., Any], outbox: Outbox, sandbox: Sandbox
) -> None:
    two_die_with(append, outbox)
    sandbox.misbehave(visitor_uid="slow", delay=3_600)
    append("slow", 0)
    with delivering(post_timeout_seconds=3_600, lease_seconds=3_700) as delivery:
        wait_until(lambda: sandbox.requests)  # from now on something is under way
        come_due(outbox, DEADLY)
        wait_until(lambda: delivery._makes_room)
        append("fresh", 0)
        assert outbox.claim("another process", 1, lease_ms=60_000).alone
        wait_until(lambda: any(request.visitor_uid == "fresh" for request in sandbox.requests))
        delivery._tracker.cut()
    assert not any(request.visitor_uid == "deadly" for request in sandbox.requests)


def test_an_attempt_that_ends_shows_that_the_event_does_not_kill(
    append: Append, delivering: Callable[..., Any], outbox: Outbox, sandbox: Sandbox
) -> None:
    event_id = bytes.fromhex(two_die_with(append, outbox))
    come_due(outbox, DEADLY)
    sandbox.misbehave(status=500)

    def known() -> Tried:
        return Tried.unpack(outbox.read("HGET", outbox.keys.trying, str(DEADLY)), event_id)

    with delivering(retry_first_seconds=3_600):
        wait_until(lambda: known().attempts == 1)
    assert known().abandoned == 1
