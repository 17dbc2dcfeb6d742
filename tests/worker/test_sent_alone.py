"""An event that two workers have died with is posted while its process posts nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from delivering import Append, drained
from waiting import wait_until

from insend_relay.console.sandbox import Sandbox
from insend_relay.outbox.store import Outbox

POST_SECONDS = 0.2


def test_an_event_that_two_workers_died_with_is_posted_alone_and_holds_nobody_back(
    append: Append, delivering: Callable[..., Any], outbox: Outbox, sandbox: Sandbox
) -> None:
    append("deadly", 0)
    append("deadly", 1)
    for _ in range(3):  # the first is no sign yet; then two leases that nobody came back for
        assert outbox.claim("a worker that dies", 1, lease_ms=1)
        wait_until(lambda: outbox.look(1)[1] > 0)
    assert outbox.claim("the last of them", 1, lease_ms=500)
    for visitor in range(8):
        for number in range(4):
            append(str(visitor), number)
    sandbox.misbehave(delay=POST_SECONDS)
    with delivering():
        books = drained(outbox)
    (deadly,) = [r for r in sandbox.requests if (r.visitor_uid, r.properties["number"]) == ("deadly", 0)]
    others = [request for request in sandbox.requests if request is not deadly]
    assert all(abs(other.arrived_at - deadly.arrived_at) >= POST_SECONDS for other in others)
    assert any(other.arrived_at < deadly.arrived_at for other in others), "it had to wait for them"
    assert (books["delivered"], len(sandbox.requests), books.get("dead", 0)) == (34, 34, 0)
