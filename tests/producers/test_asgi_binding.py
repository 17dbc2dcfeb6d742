"""FastAPI and Starlette: whose an event is and on which page, by real requests to a real server."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pytest
from asgi_server import Browser, raw, serving
from counting import counted
from fastapi import Depends, FastAPI, Request
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from insend_relay.outbox.record import Record
from insend_relay.outbox.store import Outbox
from insend_relay.producers import AsyncInSend, InSend, InvalidEvent
from insend_relay.producers.asgi import InSendMiddleware, VisitorUid, get_insend
from insend_relay.producers.testing import RecordedEvents

Kept = Callable[[str], list[Record]]
SECRET = "invented"
Insend = Annotated[AsyncInSend, Depends(get_insend)]


@pytest.fixture
def ainsend(insend: InSend) -> AsyncInSend:
    """The account's AsyncInSend; each server that uses it closes its connections."""
    return AsyncInSend(settings=insend.settings)


def customer(connection: HTTPConnection) -> str | None:
    """Who is logged in."""
    uid: str | None = connection.session.get("customer")
    return uid


def shop(insend: AsyncInSend, visitor_uid: VisitorUid = customer, *, debug: bool = False) -> FastAPI:
    """A shop with a login."""
    app = FastAPI(debug=debug)
    app.add_middleware(SessionMiddleware, secret_key=SECRET)
    app.add_middleware(InSendMiddleware, insend=insend, visitor_uid=visitor_uid)

    @app.get("/view/{product}")
    async def view(product: str, insend: Insend) -> str:
        return (await insend.view_product(product_id=product)).where

    @app.get("/login/{name}")
    async def login(name: str, request: Request) -> str:
        request.session["customer"] = name
        return (await insend("event", "update_info", {}, {"first_name": "Anna"})).where

    @app.get("/bad")
    async def bad() -> str:
        try:
            return (await insend.view_product(product_id="")).where
        except InvalidEvent:
            return "raised"

    @app.get("/quiet")
    async def quiet() -> str:
        return "nothing sent"

    return app


@pytest.fixture
def port(ainsend: AsyncInSend) -> Iterator[int]:
    """The shop, served."""
    with serving(shop(ainsend)) as port:
        yield port


def data(record: Record) -> dict[str, Any]:
    return dict(json.loads(record.payload))


def only(kept: Kept, lane: str) -> dict[str, Any]:
    (record,) = kept(lane)
    return data(record)


def uids(kept: Kept, lane: str) -> list[tuple[str | None, str | None]]:
    return [(data(record).get("visitor_uid"), data(record).get("guest_uid")) for record in kept(lane)]


def test_a_guests_event_says_who_and_on_which_page(port: int, kept: Kept) -> None:
    guest = Browser(port, convead_guest_uid="Guest.1")
    guest.get("/view/7?from=mail&q=%D1%8F", Referer="https://example.net/a?b=c")
    found = only(kept, "g/Guest.1")
    assert found["url"] == "http://shop.example.com/view/7?from=mail&q=%D1%8F"
    assert found["path"] == "/view/7"
    assert found["host"] == "shop.example.com"
    assert found["referrer"] == "https://example.net/a?b=c"
    assert found["properties"] == {"product_id": "7"}


def test_both_uids_go_out_once_after_login_and_then_the_visitor_alone(port: int, kept: Kept) -> None:
    browser = Browser(port, convead_guest_uid="Guest.1")
    browser.get("/view/1")
    login = browser.get("/login/anna")
    browser.get("/view/2")
    browser.get("/view/3")
    assert uids(kept, "g/Guest.1") == [(None, "Guest.1")]
    assert uids(kept, "v/anna") == [("anna", "Guest.1"), ("anna", None), ("anna", None)]
    (known,) = [cookie for cookie in login.set_cookies if cookie.startswith("insend_known=")]
    assert known.split("; ")[1:] == ["Max-Age=34560000", "Path=/", "HttpOnly", "SameSite=Lax"]


def test_as_a_guest_again_the_browser_forgets_that_the_tracker_knows(port: int) -> None:
    browser = Browser(port, convead_guest_uid="Guest.1")
    browser.get("/login/anna")
    del browser.cookies["session"]
    assert browser.get("/view/1").set_cookies == ["insend_known=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"]


def test_pages_without_news_set_no_cookie(port: int) -> None:
    browser = Browser(port, convead_guest_uid="Guest.1")
    assert browser.get("/view/1").set_cookies == []
    browser.get("/login/anna")
    assert browser.get("/view/2").set_cookies == []
    assert browser.get("/quiet").set_cookies == []


def test_the_next_person_at_the_browser_becomes_known_too(port: int, kept: Kept) -> None:
    browser = Browser(port, convead_guest_uid="Guest.1")
    browser.get("/login/anna")
    browser.get("/login/boris")
    assert uids(kept, "v/boris") == [("boris", "Guest.1")]


def test_behind_tls_the_cookie_is_secure_and_the_address_https(ainsend: AsyncInSend, kept: Kept) -> None:
    with serving(shop(ainsend), forwarded_allow_ips="127.0.0.1") as port:
        browser = Browser(port, convead_guest_uid="Guest.1")
        answer = browser.get("/login/anna", X_Forwarded_Proto="https")
    assert any(cookie.startswith("insend_known=") and cookie.endswith("; Secure") for cookie in answer.set_cookies)
    assert only(kept, "v/anna")["url"] == "https://shop.example.com/login/anna"


def test_an_opted_out_visitor_sends_nothing(port: int, outbox: Outbox) -> None:
    browser = Browser(port, convead_guest_uid="Guest.1", convead_track_disable="1")
    assert browser.get("/view/1").text == '"opted_out"'
    assert browser.get("/login/anna").text == '"opted_out"'
    assert {key for key, _ in outbox.read("HGETALL", outbox.keys.ledger).items()} == {b"opted_out"}


@pytest.mark.parametrize("uid", ["", "two words", "x" * 129, '"\\400\\', "\xd0\xbf", "a=b;;=; convead_guest_uid"])
def test_a_malformed_cookie_counts_as_none(port: int, uid: str) -> None:
    assert Browser(port, convead_guest_uid=uid).get("/view/1").text == '"no_visitor"'


def test_a_missing_cookie_is_harmless(port: int) -> None:
    assert Browser(port).get("/view/1").text == '"no_visitor"'


@pytest.mark.parametrize(
    ("header", "seen"),
    [
        ("Host: a b/c?d", {"host": "shop.example.com"}),
        ("Host:", {"host": "shop.example.com"}),
        ("Host: shop@example.net", {"path": "/view/1"}),
        ("Referer: \xff\xfe", {"referrer": "\xff\xfe"}),
        ("Referer: " + "x" * 5000, {"referrer": None}),
    ],
)
def test_what_a_client_makes_up_never_makes_an_event_invalid(
    port: int, kept: Kept, header: str, seen: dict[str, str | None]
) -> None:
    lines = ["GET /view/1?x=%00 HTTP/1.1", header, "Cookie: convead_guest_uid=g", "Connection: close", "", ""]
    if not header.startswith("Host"):
        lines.insert(1, "Host: shop.example.com")
    assert b'"redis"' in raw(port, "\r\n".join(lines).encode("latin-1"))
    found = only(kept, "g/g")
    assert {name: found.get(name) for name in seen} == seen


def test_a_request_without_host_leaves_the_page_to_the_account(port: int, kept: Kept) -> None:
    assert b'"redis"' in raw(port, b"GET /view/1 HTTP/1.0\r\nCookie: convead_guest_uid=g\r\n\r\n")
    found = only(kept, "g/g")
    assert (found["host"], found["path"], found.get("url")) == ("shop.example.com", "/view/1", None)


def _scopes() -> st.SearchStrategy[dict[str, Any]]:
    names = st.sampled_from([b"host", b"referer", b"cookie", b"x"])
    headers = st.lists(st.tuples(names, st.binary() | st.sampled_from([b"convead_guest_uid=g", b"shop.example.com"])))
    return st.fixed_dictionaries(
        {"type": st.sampled_from(["http", "websocket"]), "path": st.text(st.characters()), "headers": headers},
        optional={
            "raw_path": st.none() | st.binary(),
            "query_string": st.binary(),
            "root_path": st.text(st.characters()),
            "scheme": st.sampled_from(["http", "https", "ws", "wss", ""]) | st.text(),
        },
    )


@given(_scopes())
@example({"type": "http", "path": "/\ud800", "root_path": "/\udfff", "headers": [(b"host", b"shop.example.com")]})
def test_no_scope_at_all_raises(scope: dict[str, Any]) -> None:
    called: list[str] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        called.append(scope["type"])
        assert (await insend.view_product(product_id=1, visitor_uid="42")).where == "disabled"

    insend = AsyncInSend(app_key="k", domain="shop.example.com", enabled=False)
    middleware = InSendMiddleware(app, insend=insend)
    asyncio.run(middleware(scope, None, None))  # type: ignore[arg-type]  # nothing is received or sent
    assert called


def test_visitor_uid_may_be_a_coroutine_function(ainsend: AsyncInSend, kept: Kept) -> None:
    async def look_up(connection: HTTPConnection) -> int:
        await asyncio.sleep(0)
        return int(connection.headers["x-customer"])

    with serving(shop(ainsend, look_up)) as port:
        Browser(port).get("/view/1", X_Customer="42")
    assert only(kept, "v/42")["visitor_uid"] == "42"


def test_a_visitor_uid_that_raises_leaves_the_event_to_the_guest(
    ainsend: AsyncInSend, kept: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(connection: HTTPConnection) -> str:
        return str(connection.session["customer"])

    with serving(shop(ainsend, broken)) as port, caplog.at_level(logging.ERROR, "insend_relay"):
        assert Browser(port, convead_guest_uid="g").get("/view/1").text == '"redis"'
    assert uids(kept, "g/g") == [(None, "g")]
    assert "visitor_uid failed" in caplog.text


def test_a_bad_event_is_buried_outside_debug_and_raised_in_debug(ainsend: AsyncInSend, outbox: Outbox) -> None:
    with serving(shop(ainsend)) as port:
        assert Browser(port, convead_guest_uid="g").get("/bad").text == '"invalid"'
    assert counted(outbox)["dead"] == 1
    with serving(shop(ainsend, debug=True)) as port:
        assert Browser(port, convead_guest_uid="g").get("/bad").text == '"raised"'
    assert counted(outbox)["dead"] == 1


def test_the_names_of_the_cookies_are_settings(insend: InSend, kept: Kept) -> None:
    renamed = AsyncInSend(settings=insend.settings, guest_cookie="who", opt_out_cookie="leave_me")
    with serving(shop(renamed)) as port:
        assert Browser(port, who="g", convead_track_disable="1").get("/view/1").text == '"redis"'
        assert Browser(port, who="g", leave_me="1").get("/view/1").text == '"opted_out"'
    assert len(kept("g/g")) == 1


def test_plain_functions_send_by_an_insend(insend: InSend, kept: Kept) -> None:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, secret_key=SECRET)
    app.add_middleware(InSendMiddleware, insend=insend, visitor_uid=customer)

    @app.get("/login/{name}")
    def login(name: str, request: Request) -> str:
        request.session["customer"] = name
        return insend.view_product(product_id=1).where

    with serving(app) as port:
        browser = Browser(port, convead_guest_uid="g")
        browser.get("/login/anna")
        browser.get("/login/anna")
    with serving(app) as port:  # the end of a lifespan does not end an InSend
        assert Browser(port).get("/login/boris").text == '"redis"'
    assert uids(kept, "v/anna") == [("anna", "g"), ("anna", None)]


def test_an_insend_finds_the_visitor_beside_the_middlewares_async_one(
    insend: InSend, ainsend: AsyncInSend, kept: Kept
) -> None:
    app = shop(ainsend)

    @app.get("/plain")
    def plain() -> str:
        return insend.link().where

    with serving(app) as port:
        assert Browser(port, convead_guest_uid="g").get("/plain").text == '"redis"'
    assert len(kept("g/g")) == 1


class _Header(AuthenticationBackend):
    """Believes a header."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        name = conn.headers.get("x-user")
        return (AuthCredentials(), SimpleUser(name)) if name else None


@pytest.mark.parametrize("outermost", [True, False])
def test_plain_starlette_and_its_authenticated_user(outermost: bool, ainsend: AsyncInSend, kept: Kept) -> None:  # noqa: FBT001 - a parameter of the test
    async def view(_: StarletteRequest) -> PlainTextResponse:
        return PlainTextResponse((await ainsend.link()).where)

    ours = Middleware(InSendMiddleware, insend=ainsend)
    users = Middleware(AuthenticationMiddleware, backend=_Header())
    app = Starlette(
        routes=[Mount("/inner", Starlette(routes=[Route("/view", view)]))],
        middleware=[ours, users] if outermost else [users, ours],
    )
    with serving(app, root_path="/shop") as port:
        browser = Browser(port, convead_guest_uid="g")
        assert browser.get("/inner/view").text == "redis"
        assert browser.get("/inner/view", X_User="anna").text == "redis"
    assert only(kept, "g/g")["url"] == "http://shop.example.com/shop/inner/view"
    assert uids(kept, "v/anna") == [("anna", "g")]


def test_the_prefix_that_a_proxy_cut_off_belongs_to_the_page(ainsend: AsyncInSend, kept: Kept) -> None:
    app = shop(ainsend)

    async def behind_a_proxy(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "root_path": "/a b/"}, receive, send)

    with serving(behind_a_proxy) as port:
        Browser(port, convead_guest_uid="g").get("/view/1?x=1")
    found = only(kept, "g/g")
    assert (found["url"], found["path"]) == ("http://shop.example.com/a%20b/view/1?x=1", "/a b/view/1")


def test_an_application_may_be_wrapped_by_hand(ainsend: AsyncInSend, kept: Kept) -> None:
    app = FastAPI(debug=True)

    @app.get("/bad")
    async def bad(insend: Insend) -> str:
        await insend.link()
        with pytest.raises(InvalidEvent):
            await insend.view_product(product_id="")
        return "raised"

    with serving(InSendMiddleware(app, insend=ainsend)) as port:
        assert Browser(port, convead_guest_uid="g").get("/bad").text == '"raised"'
    assert len(kept("g/g")) == 1


def test_tests_may_override_the_dependency(ainsend: AsyncInSend, insend_events: RecordedEvents) -> None:
    app = shop(ainsend)
    other = AsyncInSend(app_key="other", domain="other.example.com", enabled=False)
    app.dependency_overrides[get_insend] = lambda: other
    with serving(app) as port:
        Browser(port, convead_guest_uid="g").get("/view/1")
    (event,) = insend_events
    assert (event.data["app_key"], event.data["domain"], event.guest_uid) == ("other", "other.example.com", "g")


def test_the_dependency_says_when_the_middleware_is_missing() -> None:
    with pytest.raises(RuntimeError, match="add_middleware"):
        asyncio.run(get_insend(HTTPConnection({"type": "http", "headers": []})))


def test_an_applications_tests_see_its_events_and_its_bad_ones(
    ainsend: AsyncInSend, insend_events: RecordedEvents, outbox: Outbox
) -> None:
    with serving(shop(ainsend)) as port:
        browser = Browser(port, convead_guest_uid="g")
        browser.get("/login/anna")
        browser.get("/view/7")
        assert browser.get("/bad").text == '"raised"'
    assert [(event.type, event.visitor_uid, event.guest_uid) for event in insend_events] == [
        ("update_info", "anna", "g"),
        ("view_product", "anna", None),
    ]
    assert outbox.read("KEYS", outbox.keys.prefix + "*") == []
