"""A tracker that limits the connections of an address: it is obeyed, and is not taken for an outage."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from delivering import APP, Append, drained
from fronts import Front
from waiting import wait_until

from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.worker.delivery import Delivery
from insend_relay.worker.stop import Stop

CONCURRENCY, LIMIT = 16, 5
VISITORS, EVENTS = 40, 10


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """For a tracker at 127.0.0.1 that we trust."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def deliver(front: Front, append: Append, delivering: Callable[..., Any], outbox: Outbox) -> dict[str, int]:
    """Many visitors' events; the ledger then."""
    for number in range(EVENTS):
        for visitor in range(VISITORS):
            append(str(visitor), number)
    with front, delivering(tracker_url=front.url(), concurrency=CONCURRENCY):
        return drained(outbox)


def test_over_tls_no_attempt_fails_and_no_duplicate_is_possible(
    append: Append,
    delivering: Callable[..., Any],
    outbox: Outbox,
    certificate: ssl.SSLContext,
    caplog: pytest.LogCaptureFixture,
) -> None:
    front = Front(limit=LIMIT, context=certificate)
    books = deliver(front, append, delivering, outbox)
    assert (books["delivered"], books.get("dead", 0)) == (VISITORS * EVENTS, 0)
    assert books.get("duplicates_possible", 0) == 0
    assert len(front.posts) == VISITORS * EVENTS
    assert 0 < front.refused < 4 * CONCURRENCY
    assert outbox.read("HGET", outbox.keys.outage(APP), "resumed") is None
    assert "takes nothing" not in caplog.text


def test_without_tls_it_is_learnt_from_the_first_requests(
    append: Append, delivering: Callable[..., Any], outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    front = Front(limit=LIMIT)
    books = deliver(front, append, delivering, outbox)
    assert (books["delivered"], books.get("dead", 0)) == (VISITORS * EVENTS, 0)
    assert books.get("duplicates_possible", 0) <= CONCURRENCY, "later connections were watched before they were used"
    assert len(front.posts) == VISITORS * EVENTS
    assert 0 < front.refused < 4 * CONCURRENCY
    assert "takes nothing" not in caplog.text


def test_a_process_that_gets_no_connection_leaves_the_events_to_one_that_has_them_all(
    append: Append,
    delivering: Callable[..., Any],
    outbox: Outbox,
    settings: Settings,
    certificate: ssl.SSLContext,
    caplog: pytest.LogCaptureFixture,
) -> None:
    front = Front(limit=LIMIT, context=certificate)
    settings = replace(settings, tracker_url=front.url(), concurrency=CONCURRENCY, outage_calm_seconds=3600)
    stop = Stop(8)
    without = Delivery(outbox, settings, stop)
    working = threading.Thread(target=without.run, args=(3600,))
    with front, delivering(tracker_url=front.url(), concurrency=LIMIT, outage_calm_seconds=3600):
        front.hold()
        for visitor in range(LIMIT):
            append(f"first-{visitor}")
        wait_until(lambda: len(front.posts) == LIMIT)
        front.answer()
        assert drained(outbox)["delivered"] == LIMIT
        front.hold()
        for visitor in range(LIMIT):
            append(f"second-{visitor}")
        wait_until(lambda: len(front.posts) == 2 * LIMIT)
        for visitor in range(VISITORS):
            append(f"third-{visitor}")
        working.start()
        try:
            wait_until(lambda: front.refused >= CONCURRENCY + 3)
            assert front.refused < 2 * CONCURRENCY, "after the first burst it dials for one event at a time"
            assert outbox.read("HGET", outbox.keys.outage(APP), "since") is None
            assert outbox.read("HLEN", outbox.keys.trying) == 0, "no attempt was counted"
            front.answer()
            books = drained(outbox)
        finally:
            stop.ask()
            working.join()
            without.finish()
    assert (books["delivered"], books.get("dead", 0)) == (2 * LIMIT + VISITORS, 0)
    assert books.get("duplicates_possible", 0) == 0
    assert "takes nothing" not in caplog.text
