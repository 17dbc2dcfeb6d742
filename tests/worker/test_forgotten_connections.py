"""After a burst the connections that are open stop working; light traffic goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from delivering import Append, drained, ledger
from fronts import Front
from waiting import wait_until

from insend_relay.outbox.store import Outbox

BURST, EVENTS = 16, 6


@pytest.mark.parametrize("fault", ["forgets", "resets"])
def test_no_event_is_sent_twice_over_connections_that_no_longer_work(
    append: Append, delivering: Callable[..., Any], outbox: Outbox, fault: str
) -> None:
    with Front() as front, delivering(tracker_url=front.url(), post_timeout_seconds=6, lease_seconds=60):
        front.hold()
        for visitor in range(BURST):
            append(f"burst-{visitor}")
        wait_until(lambda: len(front.posts) == BURST)
        front.answer()
        drained(outbox)
        (front.forget if fault == "forgets" else front.reset)()
        for visitor in range(EVENTS):
            append(f"quiet-{visitor}")
            wait_until(lambda visitor=visitor: len(front.posts) > BURST + visitor)  # type: ignore[misc]
        books = drained(outbox)
        unanswered = front.unanswered
    assert books["delivered"] == BURST + EVENTS
    assert 1 <= unanswered <= EVENTS, "at most once for each event"
    assert books["duplicates_possible"] == unanswered == ledger(outbox)["duplicates_possible"]
    assert len(front.posts) == BURST + EVENTS + unanswered
