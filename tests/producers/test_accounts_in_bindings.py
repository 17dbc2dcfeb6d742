"""Two accounts in one shop: each of them learns once who the guest is, in every binding."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from asgi_server import Browser
from asgi_server import serving as serving_asgi
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import path as django_path
from django_site import MIDDLEWARE
from fastapi import FastAPI
from flask import Flask, request
from flask_account import account as flask_account
from starlette.requests import HTTPConnection
from wsgi_server import serving as serving_wsgi

from insend_relay.outbox.keys import Lane
from insend_relay.outbox.record import decode
from insend_relay.outbox.store import Outbox
from insend_relay.producers import AsyncInSend, InSend
from insend_relay.producers.asgi import InSendMiddleware
from insend_relay.producers.django import insend as django_insend
from insend_relay.producers.flask import FlaskInSend

FIRST, SECOND = "test-app-key", "second-app-key"
Get = Callable[[str], None]  # opens /PAGE?customer=NAME
Sent = Callable[[str, str], list[str | None]]


@pytest.fixture
def second(insend: InSend) -> Iterator[InSend]:
    """Another account's InSend, of the same shop."""
    with InSend(settings=insend.settings, app_key=SECOND) as second:
        yield second


@pytest.fixture
def sent(outbox: Outbox) -> Sent:
    """The guest beside each of a visitor's events in an account, None where it goes alone."""

    def read(app_key: str, lane: str) -> list[str | None]:
        name = outbox.keys.lane(Lane.parse(f"{app_key}/{lane}"))
        records = [decode(data) for data in outbox.read("LRANGE", name, 0, -1)]
        return [json.loads(record.payload).get("guest_uid") for record in records]

    return read


def send(page: str, first: Any, second: Any) -> None:
    """The events of a page: ``first``, ``second`` or ``both``."""
    if page != "second":
        first.link()
    if page != "first":
        second.link()


@contextmanager
def flask_shop(insend: InSend, second: InSend) -> Iterator[Get]:
    app = Flask(__name__)
    app.config.from_mapping(flask_account(insend.settings.redis_url, insend.settings.namespace))
    finsend = FlaskInSend(app, visitor_uid=lambda: request.args.get("customer"))

    @app.get("/<page>")
    def serve(page: str) -> str:
        send(page, finsend, second)
        return ""

    with serving_wsgi(app) as port:
        yield visited(port)
    finsend.close()


@contextmanager
def fastapi_shop(insend: InSend, second: InSend) -> Iterator[Get]:
    app, sender, other = FastAPI(), AsyncInSend(settings=insend.settings), AsyncInSend(settings=second.settings)
    app.add_middleware(InSendMiddleware, insend=sender, visitor_uid=customer_of)

    @app.get("/both")
    async def both() -> str:
        async with other:
            await asyncio.gather(sender.link(), other.link())  # at the same time
        return ""

    @app.get("/{page}")
    def serve(page: str) -> str:
        send(page, insend, second)
        return ""

    with serving_asgi(app) as port:
        yield visited(port)


@contextmanager
def mounted_shop(insend: InSend, second: InSend) -> Iterator[Get]:
    """One application inside another, each with a middleware of its own account."""
    inner, outer = FastAPI(), FastAPI()
    inner.add_middleware(InSendMiddleware, insend=second, visitor_uid=customer_of)
    outer.add_middleware(InSendMiddleware, insend=insend, visitor_uid=customer_of)

    @inner.get("/{page}")
    def serve(page: str) -> str:
        send(page, insend, second)
        return ""

    outer.mount("", inner)
    with serving_asgi(outer) as port:
        yield visited(port)


def customer_of(connection: HTTPConnection) -> str | None:
    return connection.query_params.get("customer")


def visited(port: int) -> Get:
    browser = Browser(port, convead_guest_uid="g")

    def get(page: str) -> None:
        answer = browser.get(f"/{page}")
        assert answer.status == 200
        assert sum("insend_known" in cookie for cookie in answer.set_cookies) <= 1

    return get


def django_customer(http: HttpRequest) -> Any:
    return http.GET.get("customer")


SECOND_INSENDS: list[InSend] = []  # where Django's views find the second account


def django_serve(_: HttpRequest, page: str) -> HttpResponse:
    send(page, django_insend, SECOND_INSENDS[-1])
    return HttpResponse()


def django_serve_on_commit(_: HttpRequest, page: str) -> HttpResponse:
    with transaction.atomic():
        if page != "second":
            django_insend.on_commit.link()
        if page != "first":
            SECOND_INSENDS[-1].link()  # at once: before the other account's event
    return HttpResponse()


urlpatterns = [django_path("on_commit/<page>", django_serve_on_commit), django_path("<page>", django_serve)]


@contextmanager
def django_shop(insend: InSend, second: InSend, prefix: str = "/") -> Iterator[Get]:
    names = ("app_key", "domain", "redis_url", "namespace", "enqueue_timeout_ms")
    account = {name.upper(): getattr(insend.settings, name) for name in names}
    ours = {**account, "VISITOR_UID": django_customer}
    SECOND_INSENDS.append(second)
    with override_settings(INSEND=ours, ROOT_URLCONF=__name__, MIDDLEWARE=MIDDLEWARE):
        browser = Client(headers={"host": "shop.example.com"})
        browser.cookies["convead_guest_uid"] = "g"

        def get(page: str) -> None:
            assert browser.get(prefix + page).status_code == 200

        yield get
    SECOND_INSENDS.pop()
    connections.close_all()


@contextmanager
def django_on_commit_shop(insend: InSend, second: InSend) -> Iterator[Get]:
    with django_shop(insend, second, "/on_commit/") as get:
        yield get


SHOPS = [django_shop, django_on_commit_shop, flask_shop, fastapi_shop, mounted_shop]


@pytest.fixture(params=SHOPS, ids=lambda shop: shop.__name__)
def get(request: pytest.FixtureRequest, insend: InSend, second: InSend) -> Iterator[Get]:
    """Opens a page of one binding's shop in a browser that keeps its cookies."""
    with ExitStack() as opened:
        yield opened.enter_context(request.param(insend, second))


def test_each_account_gets_both_uids_once(get: Get, sent: Sent) -> None:
    for page in ("first?customer=42", "second?customer=42", "both?customer=42", "both?customer=42"):
        get(page)
    assert sent(FIRST, "v/42") == ["g", None, None]
    assert sent(SECOND, "v/42") == ["g", None, None]


def test_two_accounts_in_one_request_are_both_told(get: Get, sent: Sent) -> None:
    for _ in range(3):
        get("both?customer=42")
    assert sent(FIRST, "v/42") == ["g", None, None]
    assert sent(SECOND, "v/42") == ["g", None, None]


def test_an_event_as_a_guest_counts_for_its_own_account_only(get: Get, sent: Sent) -> None:
    for page in ("both?customer=42", "first", "both?customer=42"):
        get(page)
    assert sent(FIRST, "g/g") == ["g"]
    assert sent(FIRST, "v/42") == ["g", "g"]
    assert sent(SECOND, "v/42") == ["g", None]


def test_another_customer_in_the_same_browser_is_told_to_both_accounts(get: Get, sent: Sent) -> None:
    for page in ("both?customer=42", "both?customer=43", "both?customer=43"):
        get(page)
    for account in (FIRST, SECOND):
        assert sent(account, "v/43") == ["g", None]


def test_a_replaced_key_is_told_too(insend: InSend, second: InSend, sent: Sent) -> None:
    browser = Client(headers={"host": "shop.example.com"})
    browser.cookies["convead_guest_uid"] = "g"
    names = ("domain", "redis_url", "namespace", "enqueue_timeout_ms")
    account: dict[str, Any] = {name.upper(): getattr(insend.settings, name) for name in names}
    SECOND_INSENDS.append(second)
    for key in (FIRST, "new-key", "new-key"):
        ours = {**account, "APP_KEY": key, "VISITOR_UID": django_customer}
        with override_settings(INSEND=ours, ROOT_URLCONF=__name__, MIDDLEWARE=MIDDLEWARE):
            browser.get("/first?customer=42")
    SECOND_INSENDS.pop()
    assert (sent(FIRST, "v/42"), sent("new-key", "v/42")) == (["g"], ["g", None])
