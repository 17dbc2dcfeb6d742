"""A tracker that limits the connections of an address: the limit is kept to, and nobody takes it for an outage."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from delivering import APP, Append, drained
from fronts import Front

from insend_relay.outbox.store import Outbox

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
