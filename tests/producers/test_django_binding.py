"""In a Django view: whose event it is, on which page, and what happens to a bad one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from counting import counts
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, override_settings
from django.test.utils import setup_test_environment, teardown_test_environment
from django.utils.asyncio import async_unsafe
from django_site import MIDDLEWARE

from insend_relay.outbox.record import Record
from insend_relay.outbox.store import Outbox
from insend_relay.producers import InvalidEvent
from insend_relay.producers.django import insend
from insend_relay.producers.django.middleware import InSendMiddleware
from insend_relay.producers.testing import RecordedEvents

Kept = Callable[[str], list[Record]]
HOST = "shop.example.com"


@pytest.fixture
def account(redis_url: str, namespace: str) -> dict[str, Any]:
    """What ``INSEND`` says of an account of its own."""
    return {
        "APP_KEY": "test-app-key",
        "DOMAIN": HOST,
        "REDIS_URL": redis_url,
        "NAMESPACE": namespace,
        "ENQUEUE_TIMEOUT_MS": 10_000,
    }


@pytest.fixture
def site(account: dict[str, Any]) -> Iterator[Client]:
    """A browser at the site, with the guest's cookie."""
    with override_settings(INSEND=account):
        browser = Client(headers={"host": HOST})
        browser.cookies["convead_guest_uid"] = "Guest.1"
        yield browser


@pytest.fixture
def test_environment() -> Iterator[None]:
    """As Django's test runner and pytest-django set it up."""
    setup_test_environment()
    yield
    teardown_test_environment()


def events(kept: Kept, lane: str) -> list[dict[str, Any]]:
    return [json.loads(record.payload) for record in kept(lane)]


def uids(kept: Kept, lane: str) -> list[tuple[str | None, str | None]]:
    return [(event.get("visitor_uid"), event.get("guest_uid")) for event in events(kept, lane)]


def test_an_event_is_the_guests_and_names_the_page(site: Client, kept: Kept) -> None:
    answer = site.get("/look?colour=gr%C3%BCn", headers={"referer": "https://example.net/ad?id=1"})
    assert answer.content == b"redis"
    (event,) = events(kept, "g/Guest.1")
    assert event["url"] == f"http://{HOST}/look?colour=gr%C3%BCn"
    assert (event["path"], event["host"], event["referrer"]) == ("/look", HOST, "https://example.net/ad?id=1")


def test_over_tls_the_url_and_the_cookie_say_so(site: Client, kept: Kept) -> None:
    answer = site.get("/login/7", secure=True)
    assert events(kept, "g/Guest.1")[0]["url"] == f"https://{HOST}/login/7"
    assert answer.cookies["insend_known"]["secure"]


def test_both_uids_go_out_exactly_once_when_the_guest_has_logged_in(site: Client, kept: Kept) -> None:
    site.get("/look")
    answer = site.get("/login/7")  # an event before the login, two after it
    site.get("/look")
    assert uids(kept, "g/Guest.1") == [(None, "Guest.1")] * 2
    assert uids(kept, "v/7") == [("7", "Guest.1"), ("7", None), ("7", None)]
    cookie = answer.cookies["insend_known"]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"], cookie["secure"]) == (True, "Lax", "/", "")
    assert cookie["max-age"] == 400 * 86_400
    assert "Guest" not in cookie.value


def test_another_customer_in_the_same_browser_is_told_of_once_too(site: Client, kept: Kept) -> None:
    site.get("/login/7")
    site.get("/login/8")
    site.get("/look")
    assert uids(kept, "v/8") == [("8", "Guest.1"), ("8", None), ("8", None)]


def test_as_a_guest_again_the_browser_forgets_that_the_tracker_knows(site: Client) -> None:
    site.get("/login/7")
    del site.cookies["sessionid"]
    cookie = site.get("/look").cookies["insend_known"]
    assert (cookie.value, cookie["max-age"], cookie["path"]) == ("", 0, "/")


def test_only_a_request_that_told_sets_the_cookie(site: Client) -> None:
    assert "insend_known" not in site.get("/look").cookies
    assert "insend_known" in site.get("/login/7").cookies
    assert "insend_known" not in site.get("/look").cookies


def test_who_opted_out_sends_nothing_as_guest_nor_as_customer(site: Client, outbox: Outbox, kept: Kept) -> None:
    site.cookies["convead_track_disable"] = "1"
    assert site.get("/look").content == b"opted_out"
    assert site.get("/login/7").content == b"opted_out opted_out opted_out"
    assert b"opted_out" in site.get("/stream").getvalue()
    assert (kept("g/Guest.1"), kept("v/7")) == ([], [])
    assert (counts(outbox).get("accepted", 0), counts(outbox).get("opted_out", 0)) == (0, 5)


def test_without_the_guests_cookie_nothing_is_kept_and_the_page_is_served(site: Client, outbox: Outbox) -> None:
    del site.cookies["convead_guest_uid"]
    assert site.get("/look").content == b"no_visitor"
    assert counts(outbox).get("no_visitor", 0) == 1


def test_the_names_of_the_cookies_can_be_set(site: Client, account: dict[str, Any], kept: Kept) -> None:
    names = {"GUEST_COOKIE": "guest", "OPT_OUT_COOKIE": "leave_me"}
    with override_settings(INSEND={**account, **names}):
        site.cookies["guest"] = "Guest.2"
        site.get("/look")
        site.cookies["leave_me"] = "1"
        assert site.get("/look").content == b"opted_out"
    assert uids(kept, "g/Guest.2") == [(None, "Guest.2")]


def test_a_request_without_an_event_touches_neither_session_nor_user(site: Client) -> None:
    request = site.get("/nothing").wsgi_request
    assert not request.session.accessed
    assert not hasattr(request, "_cached_user")
    assert site.get("/look").wsgi_request.session.accessed  # so that the above means something


@async_unsafe("look a customer up")  # type: ignore[untyped-decorator]  # like whatever reads a database
def uid_by_header(request: HttpRequest) -> Any:
    return request.headers.get("x-customer")


async def uid_by_header_async(request: HttpRequest) -> Any:
    return request.headers.get("x-customer")


@pytest.mark.parametrize("given", [uid_by_header, uid_by_header_async, f"{__name__}.uid_by_header"])
@pytest.mark.parametrize("page", ["/look", "/async/look"])
def test_the_project_may_say_itself_who_is_logged_in(
    given: object, page: str, site: Client, account: dict[str, Any], kept: Kept
) -> None:
    with override_settings(INSEND={**account, "VISITOR_UID": given}):
        site.get(page, headers={"x-customer": "anna-1"})
        site.get(page)
    assert uids(kept, "v/anna-1") == [("anna-1", "Guest.1")]
    assert uids(kept, "g/Guest.1") == [(None, "Guest.1")]


def test_a_site_without_authentication_has_guests_only(site: Client, kept: Kept) -> None:
    with override_settings(MIDDLEWARE=MIDDLEWARE[-1:]):
        site.get("/look")
        site.get("/async/look")
    assert uids(kept, "g/Guest.1") == [(None, "Guest.1")] * 2


def test_a_bad_event_is_buried_in_a_view_outside_debug(
    site: Client, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    answer = site.get("/bad")
    assert (answer.status_code, answer.content) == (200, b"invalid")
    assert counts(outbox).get("dead", 0) == 1
    assert "product_idd" in caplog.text


def test_a_bad_event_raises_in_debug(site: Client) -> None:
    with override_settings(DEBUG=True), pytest.raises(InvalidEvent, match="product_idd"):
        site.get("/bad")


@pytest.mark.usefixtures("test_environment")
def test_a_bad_event_raises_under_djangos_test_runner(site: Client) -> None:
    with pytest.raises(InvalidEvent, match="product_idd"):
        site.get("/bad")


def test_an_event_in_a_streamed_answer_belongs_to_its_request(site: Client, kept: Kept) -> None:
    answer = site.get("/stream")
    assert kept("g/Guest.1") == []
    assert answer.getvalue() == b"streamed redis"
    assert events(kept, "g/Guest.1")[0]["path"] == "/stream"


def test_after_a_request_nothing_of_it_is_left(site: Client, outbox: Outbox) -> None:
    site.get("/look")
    site.get("/stream")  # and never read
    assert insend.link().where == "no_visitor"
    assert counts(outbox).get("accepted", 0) == 1


def test_the_insend_events_fixture_sees_what_a_view_sent(insend_events: RecordedEvents) -> None:
    browser = Client(headers={"host": HOST})
    with override_settings(INSEND={"ENABLED": False}):
        browser.cookies["convead_guest_uid"] = "Guest.1"
        browser.get("/login/7")
        with pytest.raises(InvalidEvent):
            browser.get("/bad")
    assert insend_events.types == ["link"] * 3
    assert [(event.visitor_uid, event.guest_uid) for event in insend_events] == [
        (None, "Guest.1"),
        ("7", "Guest.1"),
        ("7", None),
    ]


@pytest.mark.usefixtures("site")
def test_who_a_view_names_goes_before_the_request(kept: Kept) -> None:
    def ship(_: HttpRequest) -> HttpResponse:
        with insend.visitor(visitor_uid="anna", title="Orders"):
            return HttpResponse(insend("event", "order_update", {"order_id": 1, "state": "shipped"}).where)

    request = RequestFactory(headers={"host": HOST}).get("/ship")
    request.COOKIES["convead_guest_uid"] = "Staff.1"
    InSendMiddleware(ship)(request)
    (event,) = events(kept, "v/anna")
    assert (event["title"], event.get("path"), event.get("guest_uid")) == ("Orders", None, None)
