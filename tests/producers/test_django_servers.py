"""Django under gunicorn and uvicorn: async views, requests that overlap, and what no well-behaved browser sends."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from asgi_server import Browser, raw
from django_site import served

from insend_relay.outbox.record import Record

Kept = Callable[[str], list[Record]]


class Site(NamedTuple):
    """A running site.

    Attributes:
        server: What serves it.
        prefix: Of its pages: there are plain views, which uvicorn runs in threads, and async ones.
        uid: Of its customer.
        port: On loopback.
    """

    server: str
    prefix: str
    uid: str
    port: int = 0

    def guest(self, name: str) -> str:
        """A guest who comes to no other site."""
        return f"{name}.{self.uid}"


SITES = [Site("wsgi", "/", "1"), Site("asgi", "/", "2"), Site("asgi", "/async/", "3")]


@pytest.fixture(scope="module")
def namespace() -> str:
    """One for all the servers here."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def environ(redis_url: str, namespace: str) -> dict[str, str]:
    """The account's variables: here ``INSEND`` says nothing."""
    return {
        "INSEND_APP_KEY": "test-app-key",
        "INSEND_DOMAIN": "shop.example.com",
        "INSEND_REDIS_URL": redis_url,
        "INSEND_NAMESPACE": namespace,
        "INSEND_ENQUEUE_TIMEOUT_MS": "10000",
    }


@pytest.fixture(scope="module", params=SITES, ids=lambda site: site.server + site.prefix)
def site(
    request: pytest.FixtureRequest, environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A site under each server, with plain and with async views."""
    log = tmp_path_factory.mktemp("site") / "log"
    with served(request.param.server, log, environ) as port:
        yield request.param._replace(port=port)
    assert "Traceback" not in log.read_text()


def events(kept: Kept, lane: str) -> list[dict[str, Any]]:
    return [json.loads(record.payload) for record in kept(lane)]


def uids(kept: Kept, lane: str) -> list[tuple[str | None, str | None]]:
    return [(event.get("visitor_uid"), event.get("guest_uid")) for event in events(kept, lane)]


def get(target: str, *headers: bytes, host: bytes = b"shop.example.com") -> bytes:
    lines = [b"GET %b HTTP/1.1" % target.encode(), b"Host: %b" % host, b"Connection: close", *headers]
    return b"\r\n".join([*lines, b"", b""])


def test_a_visit_from_guest_to_customer(site: Site, kept: Kept) -> None:
    guest, uid = site.guest("Visit"), site.uid
    browser = Browser(site.port, convead_guest_uid=guest)
    assert browser.get(f"{site.prefix}look").text == "redis"
    assert set(browser.get(f"{site.prefix}login/{uid}").text.split()) == {"redis"}
    assert browser.get(f"{site.prefix}look").text == "redis"
    assert browser.get(f"{site.prefix}stream").text == "streamed redis"
    assert uids(kept, f"g/{guest}") == [(None, guest)] * 2
    first, *others = uids(kept, f"v/{uid}")
    assert first == (uid, guest)
    assert len(others) >= 3
    assert set(others) == {(uid, None)}
    last = events(kept, f"v/{uid}")[-1]
    assert (last["url"], last["path"]) == (f"http://shop.example.com{site.prefix}stream", f"{site.prefix}stream")


def test_requests_that_overlap_do_not_mix(site: Site, kept: Kept) -> None:
    guests = {site.guest(name): host for name, host in [("A", "127.0.0.1:8001"), ("B", "127.0.0.1:8002")]}

    def visit(guest: str) -> None:
        browser = Browser(site.port, convead_guest_uid=guest)
        assert browser.get(f"{site.prefix}together", Host=guests[guest]).text == "redis"

    with ThreadPoolExecutor(2) as people:
        list(people.map(visit, guests))  # each waits for the other in the middle of its page
    for guest, host in guests.items():
        assert [event["host"] for event in events(kept, f"g/{guest}")] == [host, host]


@pytest.mark.parametrize(
    "cookie",
    [
        b"convead_guest_uid",
        b"convead_guest_uid=",
        b"convead_guest_uid=<script>",
        b"convead_guest_uid=" + b"x" * 5000,
        b"convead_guest_uid=\xff\xfe\x80",
        b'convead_guest_uid="a\\377b"; =; ;;',
        b"insend_known=\xff; sessionid=nonsense; convead_track_disable",
    ],
)
def test_a_malformed_cookie_counts_as_none(cookie: bytes, site: Site) -> None:
    answer = raw(site.port, get(f"{site.prefix}look", b"Cookie: " + cookie))
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"no_visitor" in answer


@pytest.mark.parametrize("host", [b"no host at all!", b"evil.example.net", b"[::1"])
def test_under_a_malformed_host_the_event_goes_without_an_address(host: bytes, site: Site, kept: Kept) -> None:
    guest = site.guest(f"Lost-{len(host)}")
    request = get(f"{site.prefix}look", b"Cookie: convead_guest_uid=" + guest.encode(), host=host)
    assert b"redis" in raw(site.port, request)
    (event,) = events(kept, f"g/{guest}")
    assert (event.get("url"), event["path"], event["host"]) == (None, f"{site.prefix}look", "shop.example.com")


@pytest.mark.parametrize(
    "target", ["//look", "look", "/look?%ff=%zz&[", "/look?" + "x" * 3000, "/l%6Fok", "/l%00ok%ff"]
)
def test_an_odd_address_makes_no_event_fail(target: str, site: Site, kept: Kept) -> None:
    guest = site.guest(f"Odd-{len(target)}")
    before = len(kept(f"g/{guest}"))
    headers = [b"Cookie: convead_guest_uid=" + guest.encode(), b"Referer: \xff\xfe not an address"]
    answer = raw(site.port, get(target if target == "look" else site.prefix[:-1] + target, *headers))
    assert b" 500 " not in answer
    assert len(kept(f"g/{guest}")) - before == answer.count(b"redis")


def test_a_server_with_wrong_settings_does_not_start_and_says_which(tmp_path: Path) -> None:
    log = tmp_path / "log"
    ended = pytest.raises(OSError, match=r"refused|reset|roken pipe")
    with served("wsgi", log, {"INSEND_APP_KEY": "key"}) as port, ended:
        raw(port, get("/nothing"))
    assert "INSEND_DOMAIN (domain=) is not set" in log.read_text()
