"""Each way in which a tracker or a proxy does not take an event: its fault, and what an operator reads of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import gevent
import pytest
import trustme
from answering import answer, answering, certified
from broken_redis import broken_redis, says

from insend_relay.outbox.fault import Fault, ends_by_itself, fault_of
from insend_relay.outbox.record import Record, new_id
from insend_relay.worker.form import form
from insend_relay.worker.outcome import Outcome
from insend_relay.worker.tracker import Tracker

BODY = form("app1/v/42", Record(new_id().bytes, 1, 1, 0, "", b'{"a":"b"}'))
LOCATION = "https://new.example.net/watch/event"


def posted(url: str) -> Outcome:
    client = Tracker(url, timeout_seconds=60, connections=1)
    try:
        return client.post(BODY)
    finally:
        client.close()


def tried(url: str) -> Outcome | None:
    client = Tracker(url, timeout_seconds=60, connections=1)
    try:
        found: Outcome | None = gevent.spawn(client.try_connection).get()
        return found
    finally:
        client.close()


@pytest.mark.parametrize(
    ("data", "fault", "failure", "summary"),
    [
        (answer("401 Unauthorized", '{"error": "key revoked"}'), "key", "closed", '401: {"error": "key revoked"}'),
        (answer("403 Forbidden"), "key", "closed", "403"),
        (answer("404 Not Found"), "address", "closed", "404"),
        (answer("405 Method Not Allowed"), "address", "rejected", "405"),
        (
            answer("301 Moved Permanently", "<h1>Moved</h1>", f"Location: {LOCATION}"),
            "redirect",
            "closed",
            f"301: Location: {LOCATION}",
        ),
        (answer("308 Permanent Redirect", "", "Location: /new"), "redirect", "closed", "308: Location: /new"),
        (answer("302 Found"), "redirect", "closed", "302"),
        (answer("407 Proxy Authentication Required"), "proxy", "unreachable", "407"),
        (answer("400 Bad Request", "no such\r\n  domain"), "refusal", "rejected", "400: no such domain"),
        (answer("202 Accepted"), "refusal", "rejected", "202"),
        (answer("429 Too Many Requests", "slow down"), "passing", "unreachable", "429: slow down"),
        (
            answer("503 Service Unavailable", "<html><style>h1 {}</style>\n<h1>Try later</h1>"),
            "passing",
            "unreachable",
            "503: Try later",
        ),
        (answer("500 Internal Server Error", "x" * 400), "passing", "server", "500: " + "x" * 200),
    ],
)
def test_an_answer_says_whose_fault_it_is(data: bytes, fault: Fault, failure: str, summary: str) -> None:
    with answering(data) as (_, port):
        found = posted(f"http://127.0.0.1:{port}/watch/event")
    assert (found.fault, found.failure, found.summary(found.text)) == (fault, failure, summary)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("expired", "certificate has expired"),
        ("not valid yet", "certificate is not yet valid"),
        ("of another name", "IP address mismatch, certificate is not valid for '127.0.0.1'"),
        ("of an unknown authority", "unable to get local issuer certificate"),
    ],
)
def test_a_certificate_s_fault_is_said_in_words(authority: trustme.CA, case: str, words: str) -> None:
    day = datetime.now(UTC)
    contexts = {
        "expired": lambda: certified(authority, not_after=day - timedelta(days=1)),
        "not valid yet": lambda: certified(authority, not_before=day + timedelta(days=1)),
        "of another name": lambda: certified(authority, "shop.example.com"),
        "of an unknown authority": lambda: certified(trustme.CA()),
    }
    with answering(answer("200 OK"), contexts[case]()) as (server, port):
        url = f"https://127.0.0.1:{port}/"
        found = posted(url)
        assert tried(url) == found, "the doctor sees what a POST sees"
    assert (found.kind, found.fault, found.failure) == ("refused", "certificate", "unreachable")
    assert found.text == f"TLS failed: {words}"
    assert server.requests == []


def test_a_tracker_that_speaks_no_tls_is_named(authority: trustme.CA) -> None:
    del authority
    with broken_redis(says(answer("400 Bad Request"))) as address:
        found = tried(f"https://127.0.0.1:{urlsplit(address).port}/")
    assert found
    assert (found.fault, found.text) == ("certificate", "TLS failed: wrong version number")


def test_a_proxy_that_does_not_accept_our_password_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(answer("407 Proxy Authentication Required")) as (proxy, port):
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:wrong@127.0.0.1:{port}")
        found = posted("https://tracker.example.net/watch/event")
        assert tried("https://tracker.example.net/watch/event") == found
    assert (found.kind, found.fault) == ("refused", "proxy")
    assert found.text == "the proxy answered 407 Proxy Authentication Required"
    assert set(proxy.requests) == {"CONNECT tracker.example.net:443 HTTP/1.0"}


@pytest.mark.parametrize(("status", "fault"), [("403 Forbidden", "proxy"), ("502 Bad Gateway", "passing")])
def test_a_proxy_that_does_not_reach_the_tracker_is_told_from_one_that_may_not(
    monkeypatch: pytest.MonkeyPatch, status: str, fault: Fault
) -> None:
    with answering(answer(status)) as (_, port):
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        found = posted("https://tracker.example.net/watch/event")
    assert (found.kind, found.fault, found.text) == ("refused", fault, f"the proxy answered {status}")


def test_nobody_listens_passes_and_no_such_host_does_not() -> None:
    for look in (posted, tried):
        refused, unknown = look("http://127.0.0.1:1/"), look("http://missing.invalid/")
        assert refused
        assert unknown
        assert (refused.fault, refused.text) == ("passing", "connection refused")
        assert (unknown.fault, unknown.text) == ("host", "no such host")


def test_a_connection_that_can_be_opened_has_no_fault_and_carries_no_event(authority: trustme.CA) -> None:
    with answering(answer("401 Unauthorized"), certified(authority)) as (server, port):
        assert tried(f"https://127.0.0.1:{port}/") is None
    assert server.requests == []


def test_an_error_of_tls_after_the_request_was_sent_passes(authority: trustme.CA) -> None:
    """The connection had been made, so neither the certificate nor the proxy is wrong."""
    with answering(b"", certified(authority)) as (_, port):
        client = Tracker(f"https://127.0.0.1:{port}/", timeout_seconds=0.2, connections=1)
        found = client.post(BODY)
        client.close()
    assert found.fault == "passing"


def test_only_a_passing_fault_ends_by_itself_and_an_unknown_one_asks_for_a_person() -> None:
    assert ends_by_itself("passing")
    assert fault_of("passing") == "passing"
    assert not ends_by_itself(fault_of("of a newer release"))
