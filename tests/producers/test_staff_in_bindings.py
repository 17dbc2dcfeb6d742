"""Staff ship the order of a customer without an account: in no binding is the event about the staff member."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import pytest
from asgi_server import Browser
from asgi_server import serving as serving_asgi
from counting import counted
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import path as django_path
from django_site import MIDDLEWARE
from fastapi import FastAPI
from flask import Flask
from flask_account import account as flask_account
from wsgi_server import serving as serving_wsgi

from insend_relay.outbox.record import Record
from insend_relay.outbox.store import Outbox
from insend_relay.producers import AsyncInSend, InSend, InvalidEvent, Receipt
from insend_relay.producers.asgi import InSendMiddleware
from insend_relay.producers.django import ainsend
from insend_relay.producers.django import insend as django_insend
from insend_relay.producers.flask import FlaskInSend

Kept = Callable[[str], list[Record]]
PAGE = "/admin/orders/5001"
ORDER: dict[str, Any] = {"order_id": 5001, "state": "shipped"}
CUSTOMER = {"email": "customer@example.com"}
NO_ACCOUNT: dict[str, Any] = {"visitor_uid": None, "guest_uid": None}
GUEST: dict[str, Any] = {"visitor_uid": None, "guest_uid": "customers-guest"}


# The ways of calling, for plain code and for asyncio. All of them give both uids, as the fields of an order.


def in_a_call(insend: Any, who: dict[str, Any]) -> Any:
    return insend.order_update(**ORDER, visitor_info=CUSTOMER, **who)


def by_name(insend: Any, who: dict[str, Any]) -> Any:
    return insend.event("order_update", ORDER, CUSTOMER, **who)


def pasted(insend: Any, who: dict[str, Any]) -> Any:
    return insend("event", "order_update", ORDER, CUSTOMER, **who)


def by_type(insend: Any, who: dict[str, Any]) -> Any:
    return insend("order_update", ORDER, CUSTOMER, **who)


def in_a_block(insend: Any, who: dict[str, Any]) -> Any:
    with insend.visitor(**who):
        return insend.order_update(**ORDER, visitor_info=CUSTOMER)


WAYS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "call": in_a_call,
    "name": by_name,
    "pasted": pasted,
    "block": in_a_block,
}


def told(send: Callable[[], Receipt | None]) -> str:
    try:
        receipt = send()
    except InvalidEvent as error:
        return f"raised: {error}"
    return receipt.where if receipt else "None"


async def told_async(send: Callable[[], Awaitable[Receipt]]) -> str:
    try:
        return (await send()).where
    except InvalidEvent as error:
        return f"raised: {error}"


# The sites


class Answer(NamedTuple):
    """What a page said, and whether it set our cookie."""

    text: str
    sets_known: bool


Get = Callable[[str], Answer]


class Site(NamedTuple):
    """A binding's shop, in which a member of the staff is logged in."""

    get: Get
    ways: list[str]
    asked: list[str]  # an entry for each time that it was asked who is logged in


ASKED: list[str] = []


def staff(*_: object) -> str:
    ASKED.append("asked")
    return "staff"


def visited(port: int) -> Get:
    browser = Browser(port, convead_guest_uid="staffs-guest")

    def get(way: str) -> Answer:
        answer = browser.get(f"{PAGE}/{way}", Referer="https://shop.example.com/admin/orders")
        return Answer(answer.text.strip('"'), any("insend_known" in cookie for cookie in answer.set_cookies))

    return get


@contextmanager
def flask_site(insend: InSend, *, debug: bool) -> Iterator[Site]:
    app = Flask(__name__)
    app.config.from_mapping(flask_account(insend.settings.redis_url, insend.settings.namespace), TESTING=debug)
    finsend = FlaskInSend(app, visitor_uid=staff)

    def page(way: str, who: str) -> str:
        return told(lambda: WAYS[way](finsend, GUEST if who == "guest" else NO_ACCOUNT))

    app.add_url_rule(f"{PAGE}/<way>/<who>", view_func=page)
    with serving_wsgi(app) as port:
        yield Site(visited(port), list(WAYS), ASKED)
    finsend.close()


@contextmanager
def fastapi_site(insend: InSend, *, debug: bool) -> Iterator[Site]:
    app, sender = FastAPI(debug=debug), AsyncInSend(settings=insend.settings)
    app.add_middleware(InSendMiddleware, insend=sender, visitor_uid=staff)

    @app.get(PAGE + "/plain/{way}/{who}")
    def plain(way: str, who: str) -> str:
        return told(lambda: WAYS[way](insend, GUEST if who == "guest" else NO_ACCOUNT))

    @app.get(PAGE + "/{way}/{who}")
    async def page(way: str, who: str) -> str:
        return await told_async(lambda: WAYS[way](sender, GUEST if who == "guest" else NO_ACCOUNT))

    with serving_asgi(app) as port:
        yield Site(visited(port), [*WAYS, *(f"plain/{way}" for way in WAYS)], ASKED)


def django_page(_: HttpRequest, way: str, who: str) -> HttpResponse:
    return HttpResponse(told(lambda: WAYS[way](django_insend, GUEST if who == "guest" else NO_ACCOUNT)))


def django_on_commit(_: HttpRequest, way: str, who: str) -> HttpResponse:
    ways = {**WAYS, "pasted": by_type}  # ``on_commit`` takes the event type, not the JavaScript call

    def send() -> None:
        with transaction.atomic():
            if way == "block":  # on_commit finds the visitor of ``insend.visitor``
                with django_insend.visitor(**(GUEST if who == "guest" else NO_ACCOUNT)):
                    django_insend.on_commit.order_update(**ORDER, visitor_info=CUSTOMER)
            else:
                ways[way](django_insend.on_commit, GUEST if who == "guest" else NO_ACCOUNT)

    return HttpResponse(told(send))


async def django_async(_: HttpRequest, way: str, who: str) -> HttpResponse:
    return HttpResponse(await told_async(lambda: WAYS[way](ainsend, GUEST if who == "guest" else NO_ACCOUNT)))


urlpatterns = [
    django_path(PAGE[1:] + "/on_commit/<way>/<who>", django_on_commit),
    django_path(PAGE[1:] + "/async/<way>/<who>", django_async),
    django_path(PAGE[1:] + "/<way>/<who>", django_page),
]


@contextmanager
def django_site(insend: InSend, *, debug: bool) -> Iterator[Site]:
    names = ("app_key", "domain", "redis_url", "namespace", "enqueue_timeout_ms")
    account = {name.upper(): getattr(insend.settings, name) for name in names}
    with override_settings(
        INSEND={**account, "VISITOR_UID": staff}, DEBUG=debug, ROOT_URLCONF=__name__, MIDDLEWARE=MIDDLEWARE
    ):
        browser = Client(headers={"host": "shop.example.com", "referer": "https://shop.example.com/admin/orders"})
        browser.cookies["convead_guest_uid"] = "staffs-guest"

        def get(way: str) -> Answer:
            answer = browser.get(f"{PAGE}/{way}")
            return Answer(answer.content.decode(), "insend_known" in answer.cookies)

        yield Site(get, [prefix + way for prefix in ("", "async/", "on_commit/") for way in WAYS], ASKED)
    connections.close_all()


SITES = {"django": django_site, "flask": flask_site, "fastapi": fastapi_site}


@pytest.fixture(params=SITES)
def site(request: pytest.FixtureRequest, insend: InSend) -> Iterator[Callable[..., Site]]:
    """Opens one binding's shop."""
    with ExitStack() as opened:

        def open_site(*, debug: bool = False) -> Site:
            ASKED.clear()
            return opened.enter_context(SITES[request.param](insend, debug=debug))

        yield open_site


# What holds in each of them


def test_an_order_without_any_uid_is_about_no_one(site: Callable[..., Site], outbox: Outbox) -> None:
    shop = site()
    for way in shop.ways:
        answer = shop.get(f"{way}/no_account")
        assert answer == ("None" if way.startswith("on_commit") else "no_visitor", False), way
    assert counted(outbox) == {"no_visitor": len(shop.ways)}
    assert shop.asked == []


def test_an_order_of_a_guest_is_about_this_guest_and_carries_nothing_of_the_staffs_page(
    site: Callable[..., Site], kept: Kept
) -> None:
    shop = site()
    for way in shop.ways:
        answer = shop.get(f"{way}/guest")
        assert answer == ("None" if way.startswith("on_commit") else "redis", False), way
    records = kept("g/customers-guest")
    assert len(records) == len(shop.ways)
    for record in records:
        event = json.loads(record.payload)
        assert event == {
            "app_key": "test-app-key",
            "guest_uid": "customers-guest",
            "type": "order_update",
            "domain": "shop.example.com",
            "host": "shop.example.com",
            "visitor_info": CUSTOMER,
            "properties": {"order_id": "5001", "state": "shipped"},
        }
    assert shop.asked == []


def test_in_debug_naming_no_one_is_an_error_that_says_what_to_do(site: Callable[..., Site], outbox: Outbox) -> None:
    shop = site(debug=True)
    for way in shop.ways:
        text, sets_known = shop.get(f"{way}/no_account")
        assert text.startswith("raised: visitor_uid: "), way
        assert text.endswith("or leave the argument out to use the request"), way
        assert not sets_known
    assert counted(outbox) == {}
