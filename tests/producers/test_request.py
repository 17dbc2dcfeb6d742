"""Inside a web request: whose event it is, whether it may be sent, and what becomes of a bad one."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from counting import counted

from insend_relay.operations.dead import DeadLetters
from insend_relay.outbox.record import Record
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.producers import AsyncInSend, InSend, InvalidEvent, NotAccepted, known_cookie
from insend_relay.producers.request import Request, bind, current, serving
from insend_relay.producers.testing import RecordedEvents, recording

Kept = Callable[[str], list[Record]]
SETTINGS = Settings()
ACCOUNT: dict[str, Any] = {"app_key": "test-app-key", "domain": "shop.example.com", "enqueue_timeout_ms": 10_000}


def request(*, user: Any = None, guest: str = "", cookies: dict[str, str] | None = None, **page: Any) -> Request:
    """A request of a logged-in user, or of a guest."""
    cookies = {"convead_guest_uid": guest, **(cookies or {})}
    return Request(settings=SETTINGS, cookies=cookies, visitor_uid=lambda: user, **page)


def opted_out(*, user: Any = None, guest: str = "") -> Request:
    return request(user=user, guest=guest, cookies={"convead_track_disable": "1"})


def uids(events: RecordedEvents) -> list[tuple[str | None, str | None]]:
    return [(event.visitor_uid, event.guest_uid) for event in events]


@pytest.fixture
def shop(insend_events: RecordedEvents) -> InSend:  # noqa: ARG001 - it makes every InSend record
    """An InSend that needs no Redis."""
    return InSend(**ACCOUNT)


# Whose event


@pytest.mark.parametrize(
    ("said", "blocked", "found"),
    [
        ({}, {}, ("user", "g")),
        ({"visitor_uid": 7}, {}, ("7", None)),
        ({"guest_uid": "other"}, {}, (None, "other")),
        ({"visitor_uid": 7, "guest_uid": "other"}, {}, ("7", "other")),
        ({}, {"visitor_uid": 8}, ("8", None)),
        ({}, {"guest_uid": "block"}, (None, "block")),
        ({"visitor_uid": 7}, {"visitor_uid": 8, "guest_uid": "block"}, ("7", None)),
        ({"guest_uid": "other"}, {"visitor_uid": 8}, (None, "other")),
        ({}, {"url": "https://shop.example.com/block"}, ("user", "g")),
    ],
)
def test_the_call_goes_before_the_block_and_the_block_before_the_request(
    shop: InSend, insend_events: RecordedEvents, said: dict[str, Any], blocked: dict[str, Any], found: tuple[str, str]
) -> None:
    with serving(request(user="user", guest="g")), shop.visitor(**blocked):
        shop.link(**said)
    assert uids(insend_events) == [found]


def test_naming_nobody_is_not_asking_the_request(shop: InSend) -> None:
    with serving(request(user="user", guest="g")):
        assert shop.link(visitor_uid="").where == "no_visitor"
        with shop.visitor(guest_uid=""):
            assert shop.link().where == "no_visitor"


def test_the_page_is_the_calls_the_blocks_and_the_requests_each_as_far_as_it_goes(
    shop: InSend, insend_events: RecordedEvents
) -> None:
    page: dict[str, Any] = {
        "url": "https://shop.example.com/r",
        "path": "/r",
        "host": "shop.example.com",
        "referrer": "https://r.example.net",
    }
    with serving(request(guest="g", **page)), shop.visitor(path="/b", title="B"):
        shop.link(title="C")
        shop.link(visitor_uid="somebody", referrer="")
    (event, other) = insend_events
    assert (event.url, event.path, event.title, event.host) == (page["url"], "/b", "C", "shop.example.com")
    assert event.referrer == "https://r.example.net"
    assert (other.visitor_uid, other.url, other.referrer) == ("somebody", page["url"], None)


def test_outside_of_a_request_nothing_is_different(shop: InSend) -> None:
    with serving(request(user="user")):
        pass
    assert current() is None
    assert shop.link().where == "no_visitor"


def test_requests_may_lie_inside_each_other(shop: InSend, insend_events: RecordedEvents) -> None:
    with serving(request(guest="outer")):
        with serving(request(guest="inner")):
            shop.link()
        shop.link()
        outer = bind(None)
        assert shop.link().where == "no_visitor"
        assert bind(outer) is None
        shop.link()
    assert [event.guest_uid for event in insend_events] == ["inner", "outer", "outer"]


def test_a_login_and_a_logout_inside_the_request_count(shop: InSend, insend_events: RecordedEvents) -> None:
    user: list[str | None] = [None]
    it = Request(settings=SETTINGS, cookies={"convead_guest_uid": "g"}, visitor_uid=lambda: user[0])
    with serving(it):
        shop.link()
        user[0] = "42"
        shop.link()
        shop.link()
        user[0] = None
        shop.link()
    assert uids(insend_events) == [(None, "g"), ("42", "g"), ("42", None), (None, "g")]


# Both uids, once


def test_both_uids_go_together_until_the_tracker_has_been_told(shop: InSend, insend_events: RecordedEvents) -> None:
    first = request(user="42", guest="g")
    with serving(first):
        shop.link()
        shop.link()
    assert first.known.new_value
    later = request(user=42, guest="g", cookies={known_cookie.NAME: first.known.new_value})
    with serving(later):
        shop.link()
    assert later.known.new_value is None  # nothing new: the cookie stays as it is
    assert uids(insend_events) == [("42", "g"), ("42", None), ("42", None)]


def test_who_was_a_guest_again_becomes_the_visitor_anew_at_the_next_login(
    shop: InSend, insend_events: RecordedEvents
) -> None:
    cookies: dict[str, str] = {}
    for user in ("42", "42", None, None, "42", "42"):
        page = request(user=user, guest="g", cookies=cookies)
        with serving(page):
            shop.link()
        if page.known.new_value is not None:
            cookies = {known_cookie.NAME: page.known.new_value} if page.known.new_value else {}
    assert uids(insend_events) == [("42", "g"), ("42", None), (None, "g"), (None, "g"), ("42", "g"), ("42", None)]


@pytest.mark.usefixtures("insend_events")
def test_a_guests_event_that_was_not_kept_forgets_nothing(shop: InSend) -> None:
    told = request(user="42", guest="g")
    with serving(told):
        shop.link()
    opted_out = {known_cookie.NAME: told.known.new_value or "", "convead_track_disable": "1"}
    for page in (request(guest="g", cookies=opted_out), request(guest="", cookies={known_cookie.NAME: "x"})):
        with serving(page):
            shop.link()
        assert page.known.new_value is None


@pytest.mark.parametrize(("user", "guest"), [("43", "g"), ("42", "h"), ("h", "42")])
def test_another_visitor_or_guest_on_the_same_browser_is_told_anew(
    shop: InSend, insend_events: RecordedEvents, user: str, guest: str
) -> None:
    first = request(user="42", guest="g")
    with serving(first):
        shop.link()
    second = request(user=user, guest=guest, cookies={known_cookie.NAME: str(first.known.new_value)})
    with serving(second):
        shop.link()
    assert uids(insend_events)[1] == (user, guest)
    assert second.known.new_value not in {None, first.known.new_value}


@pytest.mark.parametrize(("user", "guest"), [(None, "g"), ("", "g"), ("42", "")])
def test_where_there_is_one_uid_only_nothing_is_told(shop: InSend, user: str | None, guest: str) -> None:
    it = request(user=user, guest=guest)
    with serving(it):
        assert shop.link().where == "redis"
    assert it.known.new_value is None


def test_an_event_about_somebody_else_tells_nothing_about_the_guest(
    shop: InSend, insend_events: RecordedEvents
) -> None:
    it = request(user="42", guest="g")
    with serving(it):
        shop.link(visitor_uid="other", guest_uid="others-guest")
        assert it.known.new_value is None
        shop.link()
    assert uids(insend_events) == [("other", "others-guest"), ("42", "g")]


def test_the_tracker_has_not_been_told_when_the_event_was_not_kept() -> None:
    it = request(user="42", guest="g")
    with InSend(**ACCOUNT, redis_url="redis://127.0.0.1:1/0") as insend, serving(it):
        with pytest.raises(NotAccepted):
            insend.link()
        assert it.known.new_value is None
        assert it.uids("test-app-key", "42") == ("42", "g")


def test_a_bad_event_tells_the_tracker_nothing(insend: InSend, kept: Kept) -> None:
    it = request(user="42", guest="g")
    with serving(it):
        assert insend.mailto(email="").where == "invalid"
        assert it.known.new_value is None
        insend.link()
        insend.link()
    assert [record.guest_uid for record in kept("v/42")] == ["g", ""]
    assert "guest_uid" not in json.loads(kept("v/42")[1].payload)


def test_a_duplicate_tells_nothing_for_the_first_may_have_known_of_no_guest(insend: InSend, kept: Kept) -> None:
    insend.link(visitor_uid="42", idempotency_key="k")  # a job
    it = request(user="42", guest="g")
    with serving(it):
        assert insend.link(idempotency_key="k").where == "duplicate"
        assert it.uids("test-app-key", "42") == ("42", "g")
        insend.link()
        assert it.known.new_value
    assert [record.guest_uid for record in kept("v/42")] == ["", "g"]


def test_what_the_browser_is_told_names_nobody() -> None:
    it = request(user="anna", guest="guest-of-anna")
    it.tell("test-app-key", "anna")
    assert it.known.new_value is not None
    assert len(it.known.new_value) == 16
    assert "anna" not in it.known.new_value
    assert it.known.new_value.replace("-", "").replace("_", "").isalnum()


# Cookies


@pytest.mark.parametrize("junk", ["", " ", "a b", "é", "x" * 129, "\ud800", "g\n", "<script>", '"g"', "a/b", "\x00"])
def test_a_malformed_guest_cookie_counts_as_none(shop: InSend, junk: str) -> None:
    with serving(request(guest=junk)) as it:
        assert it.guest_uid == ""
        assert shop.link().where == "no_visitor"
    with serving(request(user="42", guest=junk, cookies={known_cookie.NAME: junk})):
        assert shop.link().where == "redis"


@pytest.mark.parametrize("value", ["1", "true", "", "0", "false", " ", "\ud800"])
def test_the_opt_out_cookie_opts_out_whatever_its_value(value: str) -> None:
    assert request(cookies={"convead_track_disable": value}).opted_out
    assert not request().opted_out


def test_the_names_of_the_cookies_are_settings() -> None:
    settings = Settings(guest_cookie="my_guest", opt_out_cookie="no_thanks")
    it = Request(settings=settings, cookies={"my_guest": "g", "no_thanks": "1"}, visitor_uid=lambda: None)
    assert (it.guest_uid, it.opted_out) == ("g", True)
    it = Request(
        settings=settings,
        cookies={"convead_guest_uid": "g", "convead_track_disable": "1"},
        visitor_uid=lambda: None,
    )
    assert (it.guest_uid, it.opted_out) == ("", False)


def test_the_names_of_the_cookies_come_from_the_environment() -> None:
    read = Settings.from_env({"INSEND_GUEST_COOKIE": "a", "INSEND_OPT_OUT_COOKIE": "b", "INSEND_INVALID": "bury"})
    assert (read.guest_cookie, read.opt_out_cookie, read.invalid) == ("a", "b", "bury")
    assert (SETTINGS.guest_cookie, SETTINGS.opt_out_cookie) == ("convead_guest_uid", "convead_track_disable")
    assert SETTINGS.invalid == "auto"


# Opted out


@pytest.mark.parametrize(
    ("user", "guest", "said"),
    [
        (None, "", {}),
        (None, "g", {}),
        ("42", "g", {}),
        ("42", "g", {"visitor_uid": "42"}),
        (42, "g", {"visitor_uid": "42"}),
        ("42", "g", {"visitor_uid": 42, "guest_uid": "other"}),
        ("42", "g", {"guest_uid": "g"}),
        (None, "g", {"visitor_uid": "7"}),  # a login form that names whom it has just found
        ("", "g", {"visitor_uid": "7"}),
        (None, "g", {"guest_uid": "other"}),
    ],
)
def test_an_event_about_an_opted_out_visitor_is_not_sent(
    insend: InSend, outbox: Outbox, user: Any, guest: str, said: dict[str, Any]
) -> None:
    it = opted_out(user=user, guest=guest)
    with serving(it):
        assert insend.link(**said).where == "opted_out"
        with insend.visitor(**said):
            assert insend.link().where == "opted_out"
    assert counted(outbox) == {"opted_out": 2}
    assert it.known.new_value is None


@pytest.mark.parametrize(
    "said", [{"visitor_uid": "customer"}, {"guest_uid": "customers-guest"}, {"visitor_uid": 7, "guest_uid": "g"}]
)
def test_staff_who_opted_out_for_themselves_still_ship_their_customers_orders(
    insend: InSend, outbox: Outbox, said: dict[str, Any]
) -> None:
    with serving(opted_out(user="staff", guest="g")):
        assert insend.order_update(order_id=1, state="shipped", **said).where == "redis"
        assert insend.order_update(order_id=1, state="shipped").where == "opted_out"
    assert counted(outbox)["opted_out"] == 1


def test_an_opted_out_visitor_of_an_asyncio_application_is_asked_for_as_well(insend: InSend, outbox: Outbox) -> None:
    async def who() -> str:
        return "staff"

    async def main() -> list[str]:
        it = Request(settings=SETTINGS, cookies={"convead_track_disable": "1"}, visitor_uid=who)
        async with AsyncInSend(settings=insend.settings) as twin:
            with serving(it):
                return [(await twin.link()).where, (await twin.link(visitor_uid="customer")).where]

    assert asyncio.run(main()) == ["opted_out", "redis"]
    assert counted(outbox)["opted_out"] == 1


def test_when_redis_is_away_an_opted_out_visitor_costs_no_exception() -> None:
    with InSend(**ACCOUNT, redis_url="redis://127.0.0.1:1/0") as insend, serving(opted_out(guest="g")):
        assert insend.link().where == "opted_out"


# Bad events


@pytest.mark.parametrize(
    ("setting", "bound", "raises"),
    [
        ("auto", None, True),
        ("auto", {"debug": False}, False),
        ("auto", {"debug": True}, True),
        ("raise", None, True),
        ("raise", {"debug": False}, True),
        ("raise", {"debug": True}, True),
        ("bury", None, False),
        ("bury", {"debug": False}, False),
        ("bury", {"debug": True}, False),
    ],
)
@pytest.mark.parametrize("kind", [InSend, AsyncInSend])
def test_a_bad_event_is_raised_or_buried(
    insend: InSend, outbox: Outbox, setting: Any, bound: dict[str, Any] | None, *, raises: bool, kind: type
) -> None:
    bind(None if bound is None else request(user="42", **bound))
    try:
        if raises:
            with pytest.raises(InvalidEvent):
                bad_event(insend, setting, kind)
            assert counted(outbox) == {}
        else:
            assert bad_event(insend, setting, kind) == "invalid"
            assert counted(outbox) == {"accepted": 1, "dead": 1}
    finally:
        bind(None)


def bad_event(insend: InSend, setting: Any, kind: type) -> str:
    async def main() -> str:
        async with AsyncInSend(settings=insend.settings, invalid=setting) as twin:
            return (await twin.mailto(email="")).where

    if kind is AsyncInSend:
        return asyncio.run(main())
    with InSend(settings=insend.settings, invalid=setting) as twin:
        return twin.mailto(email="").where


def test_a_bad_event_of_an_opted_out_visitor_leaves_nothing(
    insend: InSend, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(opted_out(user="42", guest="g")):
        assert insend.mailto(email="").where == "opted_out"
        assert insend.mailto(email="", visitor_uid="customer").where == "invalid"
    assert counted(outbox) == {"opted_out": 1, "accepted": 1, "dead": 1}
    (line,) = [record.getMessage() for record in caplog.records]
    assert "properties.email" in line


def test_a_bad_visitor_uid_is_the_applications_fault_and_is_buried(insend: InSend, outbox: Outbox) -> None:
    with serving(request(user="Anna@Example", guest="g")):
        assert insend.link().where == "invalid"
    (letter,) = DeadLetters(outbox).scan()
    assert b'"visitor_uid":"Anna@Example"' in letter.payload


# Asking who it is


def test_a_visitor_uid_that_fails_makes_it_the_guests_event(
    shop: InSend, insend_events: RecordedEvents, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> str:
        raise LookupError("no session table")

    async def fails_too() -> str:
        raise LookupError("no session table")

    async def main() -> None:
        async with AsyncInSend(settings=shop.settings) as twin:
            await twin.link()

    for who in (fails, fails_too):
        with serving(Request(settings=SETTINGS, cookies={"convead_guest_uid": "g"}, visitor_uid=who)):
            if who is fails:
                shop.link()
            asyncio.run(main())
    assert uids(insend_events) == [(None, "g")] * 3
    assert caplog.text.count("visitor_uid failed") == 3
    assert "no session table" in caplog.text


def test_an_insend_cannot_wait_for_a_coroutine_and_says_so(
    shop: InSend, insend_events: RecordedEvents, caplog: pytest.LogCaptureFixture
) -> None:
    async def who() -> str:
        return "42"

    with serving(Request(settings=SETTINGS, cookies={"convead_guest_uid": "g"}, visitor_uid=who)):
        shop.link()
    assert uids(insend_events) == [(None, "g")]
    assert "use AsyncInSend" in caplog.text


@pytest.mark.parametrize("plain", [True, False])
def test_an_asyncinsend_asks_functions_and_coroutines(
    shop: InSend, insend_events: RecordedEvents, *, plain: bool
) -> None:
    async def who() -> str:
        await asyncio.sleep(0)
        return "42"

    async def main() -> None:
        async with AsyncInSend(settings=shop.settings) as twin:
            visitor_uid = (lambda: "42") if plain else who
            with serving(Request(settings=SETTINGS, cookies={"convead_guest_uid": "g"}, visitor_uid=visitor_uid)):
                await twin.link()
                await twin.link()

    asyncio.run(main())
    assert uids(insend_events) == [("42", "g"), ("42", None)]


def test_who_it_is_is_not_asked_where_it_does_not_matter(shop: InSend, caplog: pytest.LogCaptureFixture) -> None:
    def never() -> str:
        raise AssertionError("asked")

    with caplog.at_level(logging.ERROR), serving(Request(settings=SETTINGS, cookies={}, visitor_uid=never)):
        shop.link(visitor_uid="7")
    assert caplog.text == ""


def test_the_request_of_a_test_is_recorded_with_its_guest() -> None:
    with recording() as events, serving(request(guest="g")):
        InSend(**ACCOUNT).link()
    assert uids(events) == [(None, "g")]
