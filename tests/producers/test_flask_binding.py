"""Flask: whose an event is and on which page, by real requests to a real server."""

from __future__ import annotations

import importlib
import json
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgi_server import Browser, raw
from counting import counted
from flask import Flask, Response, copy_current_request_context, request, session, stream_with_context
from flask_account import account
from hypothesis import given
from hypothesis import strategies as st
from waiting import PATIENCE_SECONDS
from werkzeug.middleware.proxy_fix import ProxyFix
from wsgi_server import serving

from insend_relay.outbox.record import Record
from insend_relay.outbox.store import Outbox
from insend_relay.producers import InSend, InvalidEvent
from insend_relay.producers.flask import FlaskInSend
from insend_relay.producers.request import current

Kept = Callable[[str], list[Record]]
Config = dict[str, Any]


def customer() -> str | None:
    """Who is logged in."""
    uid: str | None = session.get("customer")
    return uid


@pytest.fixture
def config(redis_url: str, namespace: str) -> Config:
    """The settings of a shop with an account of its own."""
    return account(redis_url, namespace)


@pytest.fixture
def finsend() -> Iterator[FlaskInSend]:
    """The shop's extension, which serves no application yet."""
    finsend = FlaskInSend(visitor_uid=customer)
    yield finsend
    finsend.close()


@pytest.fixture
def app(finsend: FlaskInSend, config: Config) -> Flask:  # noqa: C901 - many pages, each of them plain
    """A shop with a login."""
    app = Flask(__name__)
    app.config.from_mapping(config)
    finsend.init_app(app)

    @app.get("/view/<path:product>")
    def view(product: str) -> str:
        return finsend.view_product(product_id=product).where

    @app.get("/login/<name>")
    def login(name: str) -> str:
        session["customer"] = name
        return finsend("event", "update_info", {}, {"first_name": "Anna"}).where

    @app.get("/logout")
    def logout() -> str:
        session.clear()
        return finsend.link().where

    @app.get("/bad")
    def bad() -> str:
        try:
            return finsend.view_product(product_id="").where
        except InvalidEvent:
            return "raised"

    @app.get("/crash")
    def crash() -> str:
        finsend.link()
        raise ZeroDivisionError

    @app.get("/stream")
    def stream() -> Response:
        def parts() -> Iterator[str]:
            for product in "123":
                yield finsend.view_product(product_id=product).where + " "

        return Response(stream_with_context(parts()))

    @app.get("/quiet")
    def quiet() -> str:
        return "nothing sent"

    return app


@pytest.fixture
def port(app: Flask) -> Iterator[int]:
    """The shop, served."""
    with serving(app) as port:
        yield port


def only(kept: Kept, lane: str) -> dict[str, Any]:
    (record,) = kept(lane)
    return dict(json.loads(record.payload))


def uids(kept: Kept, lane: str) -> list[tuple[str | None, str | None]]:
    found = [json.loads(record.payload) for record in kept(lane)]
    return [(data.get("visitor_uid"), data.get("guest_uid")) for data in found]


def test_a_guests_event_says_who_and_on_which_page(port: int, kept: Kept) -> None:
    guest = Browser(port, convead_guest_uid="Guest.1")
    assert guest.get("/view/7?from=mail&q=%D1%8F", Referer="https://example.net/a?b=c").text == "redis"
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
    said = set(known.split("; ")[1:])
    assert {"Max-Age=34560000", "Path=/", "HttpOnly", "SameSite=Lax"} <= said
    assert "Secure" not in said


def test_after_logging_out_it_is_the_guest_again(port: int, kept: Kept) -> None:
    browser = Browser(port, convead_guest_uid="Guest.1")
    browser.get("/login/anna")
    (deleted,) = [cookie for cookie in browser.get("/logout").set_cookies if cookie.startswith("insend_known=")]
    assert deleted.startswith("insend_known=;")
    assert "Max-Age=0" in deleted
    assert uids(kept, "g/Guest.1") == [(None, "Guest.1")]
    browser.get("/login/anna")
    browser.get("/login/boris")
    assert uids(kept, "v/anna") == [("anna", "Guest.1")] * 2  # for as a guest again she may have done things
    assert uids(kept, "v/boris") == [("boris", "Guest.1")]


def test_pages_without_news_set_no_cookie_of_ours(port: int) -> None:
    browser = Browser(port, convead_guest_uid="Guest.1")
    assert browser.get("/view/1").set_cookies == []
    browser.get("/login/anna")
    assert browser.get("/view/2").set_cookies == []
    assert browser.get("/quiet").set_cookies == []


def test_an_opted_out_visitor_sends_nothing(port: int, outbox: Outbox) -> None:
    browser = Browser(port, convead_guest_uid="Guest.1", convead_track_disable="1")
    assert browser.get("/view/1").text == "opted_out"
    assert browser.get("/login/anna").text == "opted_out"
    assert outbox.read("HGETALL", outbox.keys.ledger) == {b"opted_out": b"2"}


@pytest.mark.parametrize("uid", ["", "two words", "x" * 129, '"\\400\\', "\xd0\xbf", "a=b;;=; convead_guest_uid"])
def test_a_malformed_cookie_counts_as_none(port: int, uid: str) -> None:
    assert Browser(port, convead_guest_uid=uid).get("/view/1").text == "no_visitor"


def test_a_missing_cookie_is_harmless(port: int) -> None:
    assert Browser(port).get("/view/1").text == "no_visitor"


@pytest.mark.parametrize(
    ("header", "seen"),
    [
        ("Host: a b/c?d", {"host": "shop.example.com", "url": None}),
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
    assert raw(port, "\r\n".join(lines).encode("latin-1")).endswith(b"redis")
    found = only(kept, "g/g")
    assert {name: found.get(name) for name in seen} == seen


def test_a_request_without_host_leaves_the_page_to_the_account(port: int, kept: Kept) -> None:
    assert raw(port, b"GET /view/1 HTTP/1.0\r\nCookie: convead_guest_uid=g\r\n\r\n").endswith(b"redis")
    found = only(kept, "g/g")
    assert (found["host"], found["path"], found.get("url")) == ("shop.example.com", "/view/1", None)


def test_a_host_that_is_not_trusted_is_not_in_the_event(app: Flask, finsend: FlaskInSend, kept: Kept) -> None:
    app.config["TRUSTED_HOSTS"] = ["shop.example.com"]

    @app.errorhandler(400)
    def refused(_: Exception) -> str:
        return finsend.view_product(product_id=1).where

    with serving(app) as port:
        assert Browser(port, convead_guest_uid="g").get("/view/1", Host="example.net").text == "redis"
    assert (only(kept, "g/g")["host"], only(kept, "g/g").get("url")) == ("shop.example.com", None)


def test_behind_a_proxy_the_page_is_what_the_visitor_sees(app: Flask, kept: Kept) -> None:
    app.wsgi_app = ProxyFix(app.wsgi_app, x_proto=1, x_host=1, x_prefix=1)  # type: ignore[method-assign]  # as its docs say
    with serving(app) as port:
        browser = Browser(port, convead_guest_uid="g")
        forwarded = {"X_Forwarded_Proto": "https", "X_Forwarded_Host": "example.com", "X_Forwarded_Prefix": "/a b"}
        answer = browser.get("/login/anna", **forwarded)
    assert any(cookie.startswith("insend_known=") and "; Secure" in cookie for cookie in answer.set_cookies)
    found = only(kept, "v/anna")
    assert (found["url"], found["path"]) == ("https://example.com/a%20b/login/anna", "/a b/login/anna")


def _headers() -> st.SearchStrategy[dict[str, str]]:
    names = st.sampled_from(["HTTP_HOST", "HTTP_COOKIE", "HTTP_REFERER", "PATH_INFO", "SCRIPT_NAME", "QUERY_STRING"])
    odd = st.binary().map(lambda value: value.decode("latin-1"))  # as WSGI hands over every byte
    usual = st.sampled_from(["convead_guest_uid=g", "shop.example.com", "/view/1", "a=b"])
    return st.dictionaries(names, odd | usual)


@given(_headers(), st.sampled_from(["http", "https", "", "x"]))
def test_no_request_at_all_raises(headers: dict[str, str], scheme: str) -> None:
    app = Flask(__name__)
    app.config.from_mapping(INSEND_ENABLED=False)
    finsend = FlaskInSend(app)
    sent: list[str] = []

    @app.errorhandler(Exception)
    def answer(_: Exception) -> str:
        sent.append(finsend.view_product(product_id=1, visitor_uid="42").where)
        return ""

    environ = {
        "REQUEST_METHOD": "GET",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": scheme,
        **headers,
    }
    b"".join(app(environ, lambda *_: lambda _: None))
    assert sent == ["disabled"]


def test_a_visitor_uid_that_raises_leaves_the_event_to_the_guest(
    config: Config, kept: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    app = Flask(__name__)
    app.config.from_mapping(config)
    finsend = FlaskInSend(app, visitor_uid=lambda: str(session["customer"]))

    @app.get("/view")
    def view() -> str:
        return finsend.link().where

    with serving(app) as port, caplog.at_level(logging.ERROR, "insend_relay"):
        assert Browser(port, convead_guest_uid="g").get("/view").text == "redis"
    finsend.close()
    assert uids(kept, "g/g") == [(None, "g")]
    assert "visitor_uid failed" in caplog.text


def test_by_default_it_is_flask_logins_user(config: Config, kept: Kept) -> None:
    flask_login: Any = importlib.import_module("flask_login")  # it has no types
    app = Flask(__name__)
    app.config.from_mapping(config)
    finsend = FlaskInSend(app)

    def load(uid: str) -> Any:
        user = flask_login.UserMixin()
        user.id = uid
        return user

    flask_login.LoginManager(app).user_loader(load)

    @app.get("/login/<name>")
    def login(name: str) -> str:
        flask_login.login_user(load(name))
        return finsend.link().where

    @app.get("/logout")
    def logout() -> str:
        flask_login.logout_user()
        return finsend.link().where

    with serving(app) as port:
        browser = Browser(port, convead_guest_uid="g")
        answers = [browser.get(path).text for path in ("/login/anna", "/login/anna", "/logout")]
    finsend.close()
    assert answers == ["redis", "redis", "redis"]
    assert uids(kept, "v/anna") == [("anna", "g"), ("anna", None)]
    assert uids(kept, "g/g") == [(None, "g")]


def test_without_a_login_everybody_is_a_guest(config: Config, kept: Kept) -> None:
    app = Flask(__name__)
    app.config.from_mapping(config)
    finsend = FlaskInSend(app)
    app.add_url_rule("/", view_func=lambda: finsend.link().where)
    with serving(app) as port:
        assert Browser(port, convead_guest_uid="g").get("/").text == "redis"
    finsend.close()
    assert uids(kept, "g/g") == [(None, "g")]


@pytest.mark.parametrize(("attribute", "answer"), [(None, "invalid"), ("debug", "raised"), ("testing", "raised")])
def test_a_bad_event_is_buried_unless_in_debug_or_testing(
    app: Flask, outbox: Outbox, attribute: str | None, answer: str
) -> None:
    if attribute:
        setattr(app, attribute, True)
    with serving(app) as port:
        assert Browser(port, convead_guest_uid="g").get("/bad").text == answer
    assert counted(outbox).get("dead", 0) == int(not attribute)


def test_a_streamed_bodys_events_keep_their_visitor(port: int, kept: Kept) -> None:
    def visit(number: int) -> str:
        return Browser(port, convead_guest_uid=f"g{number}").get("/stream").text

    with ThreadPoolExecutor(8) as browsers:
        assert set(browsers.map(visit, range(8))) == {"redis redis redis "}
    for number in range(8):
        assert uids(kept, f"g/g{number}") == [(None, f"g{number}")] * 3


def test_requests_at_the_same_time_do_not_mix(app: Flask, finsend: FlaskInSend, insend: InSend, kept: Kept) -> None:
    together, rounds = 12, 5
    barrier = threading.Barrier(together)

    @app.get("/meet/<name>")
    def meet(name: str) -> str:
        finsend.link()
        barrier.wait(PATIENCE_SECONDS)
        session["customer"] = name
        finsend.view_product(product_id=name)
        barrier.wait(PATIENCE_SECONDS)
        return insend.view_product(product_id=name).where

    with serving(app) as port, ThreadPoolExecutor(together) as browsers:

        def visit(number: int) -> None:
            for turn in range(rounds):
                browser = Browser(port, convead_guest_uid=f"g{number}.{turn}")
                assert browser.get(f"/meet/c{number}").text == "redis"

        list(browsers.map(visit, range(together)))
    for number in range(together):
        guests = [f"g{number}.{turn}" for turn in range(rounds)]
        assert [uids(kept, f"g/{guest}") for guest in guests] == [[(None, guest)] for guest in guests]
        assert uids(kept, f"v/c{number}") == [
            (f"c{number}", guest_uid) for guest in guests for guest_uid in (guest, None)
        ]


def test_any_insend_of_the_process_knows_the_visitor(app: Flask, finsend: FlaskInSend, insend: InSend) -> None:
    @app.get("/both")
    def both() -> list[str]:
        session["customer"] = "anna"
        receipts = [insend.link(), finsend.link(), insend.view_product(product_id="")]
        return [receipt.where for receipt in receipts]

    with serving(app) as port:
        answer = Browser(port, convead_guest_uid="g").get("/both")
    assert json.loads(answer.text) == ["redis", "redis", "invalid"]
    assert any(cookie.startswith("insend_known=") for cookie in answer.set_cookies)


@pytest.mark.parametrize("path", ["/view/1", "/crash", "/stream", "/no/such/page", "/quiet"])
def test_nothing_stays_bound_to_a_thread_whatever_becomes_of_the_request(app: Flask, path: str) -> None:
    bound: list[object] = []

    def watched(environ: Any, start_response: Any) -> Iterator[bytes]:
        yield from app(environ, start_response)
        bound.append(current())

    with serving(watched, threaded=False) as port:
        Browser(port, convead_guest_uid="g").get(path)
    assert bound == [None]


def test_nothing_stays_bound_when_the_applications_own_teardown_fails(app: Flask) -> None:
    @app.teardown_request
    def fail(_: BaseException | None) -> None:
        raise ZeroDivisionError

    client = app.test_client()
    client.set_cookie("convead_guest_uid", "g")
    with pytest.raises(ZeroDivisionError):
        client.get("/view/1")
    assert current() is None


def test_an_error_page_and_an_early_answer_know_the_visitor_too(config: Config, kept: Kept) -> None:
    app = Flask(__name__)
    app.config.from_mapping(config)

    @app.before_request
    def closed() -> str | None:
        return "closed" if request.path == "/closed" else None

    finsend = FlaskInSend(app)  # later than the functions of others

    @app.after_request
    def tell(response: Response) -> Response:
        finsend.custom(key="answered", properties={"status": response.status_code})
        return response

    @app.get("/crash")
    def crash() -> str:
        raise ZeroDivisionError

    app.logger.disabled = True
    with serving(app) as port:
        browser = Browser(port, convead_guest_uid="g")
        assert [browser.get(path).status for path in ("/closed", "/missing", "/crash")] == [200, 404, 500]
    finsend.close()
    statuses = [json.loads(record.payload)["properties"]["status"] for record in kept("g/g")]
    assert statuses == [200, 404, 500]


def test_the_last_word_of_a_request_can_still_set_the_cookie(config: Config, kept: Kept) -> None:
    app = Flask(__name__)
    app.config.from_mapping(config)
    finsend = FlaskInSend(visitor_uid=lambda: "anna")

    @app.after_request
    def tell(response: Response) -> Response:
        finsend.link()
        return response

    finsend.init_app(app)
    with serving(app) as port:
        browser = Browser(port, convead_guest_uid="g")
        browser.get("/")
        browser.get("/")
    finsend.close()
    assert uids(kept, "v/anna") == [("anna", "g"), ("anna", None)]


def test_an_async_view_sends_as_any_other(app: Flask, finsend: FlaskInSend, kept: Kept) -> None:
    @app.get("/async")
    async def wait() -> str:
        return finsend.link().where

    with serving(app) as port:
        assert Browser(port, convead_guest_uid="g").get("/async").text == "redis"
    assert uids(kept, "g/g") == [(None, "g")]


def test_a_thread_with_the_requests_context_knows_the_visitor(app: Flask, finsend: FlaskInSend, kept: Kept) -> None:
    @app.get("/thread")
    def start() -> str:
        thread = threading.Thread(target=copy_current_request_context(finsend.link))
        thread.start()
        thread.join()
        return "sent"

    with serving(app) as port:
        Browser(port, convead_guest_uid="g").get("/thread")
    assert uids(kept, "g/g") == [(None, "g")]


def test_a_request_context_inside_a_request_has_its_own_visitor(app: Flask, finsend: FlaskInSend, kept: Kept) -> None:
    @app.get("/nested")
    def nest() -> str:
        with app.test_request_context("/inner", headers={"Cookie": "convead_guest_uid=inner"}):
            finsend.link()
        app.test_client().get("/view/1")
        return finsend.link().where

    with serving(app, threaded=False) as port:
        assert Browser(port, convead_guest_uid="outer").get("/nested").text == "redis"
    assert only(kept, "g/inner")["path"] == "/inner"
    assert only(kept, "g/outer")["path"] == "/nested"


def test_a_preserved_context_is_still_that_request(app: Flask, finsend: FlaskInSend, kept: Kept) -> None:
    with app.test_client() as client:
        client.set_cookie("convead_guest_uid", "g", domain="localhost")
        client.get("/quiet")
        assert finsend.link().where == "redis"
        client.get("/view/2")
        assert current() is None
    assert finsend.link().where == "no_visitor"
    assert [json.loads(record.payload)["path"] for record in kept("g/g")] == ["/quiet", "/view/2"]
