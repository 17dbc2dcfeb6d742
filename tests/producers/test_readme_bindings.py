"""What the README shows for each web framework is under ten lines and works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import flask
import pytest
from asgi_server import Browser, serving
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import path
from django_site import MIDDLEWARE
from fastapi import FastAPI, Request
from starlette.middleware.sessions import SessionMiddleware

from insend_relay.producers.testing import RecordedEvents

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
DJANGO, FLASK, FASTAPI = (
    next(block for block in BLOCKS if word in block)
    for word in ("producers.django", "producers.flask", "producers.asgi")
)


def run(block: str, **names: Any) -> dict[str, Any]:
    """The names that a block defines, given those that an application has."""
    exec(compile(block, "README.md", "exec", dont_inherit=True), names)  # noqa: S102 - our own README
    return names


def check(events: RecordedEvents, guest_uid: str | None = "g.1") -> None:
    """One purchase, about the customer, and it says who the guest was."""
    (event,) = events
    assert (event.type, event.visitor_uid, event.guest_uid) == ("purchase", "customer-42", guest_uid)
    assert event.properties["order_id"] == "1042"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a server has in its environment."""
    monkeypatch.setenv("INSEND_APP_KEY", "test-app-key")
    monkeypatch.setenv("INSEND_DOMAIN", "shop.example.com")


@pytest.mark.parametrize("block", [DJANGO, FLASK, FASTAPI], ids=["django", "flask", "fastapi"])
def test_it_is_under_ten_lines(block: str) -> None:
    assert len([line for line in block.splitlines() if line.strip()]) < 10


def buy(request: HttpRequest) -> HttpResponse:
    """The README's view, under the name that the address leads to."""
    view = run(DJANGO, INSTALLED_APPS=[], MIDDLEWARE=[], HttpResponse=HttpResponse)["buy"]
    answer: HttpResponse = view(request)
    return answer


def logged_in(_: HttpRequest) -> str:
    """Who is logged in to the Django project."""
    return "customer-42"


urlpatterns = [path("buy", buy)]


def test_in_django(insend_events: RecordedEvents) -> None:
    named = run(DJANGO, INSTALLED_APPS=[], MIDDLEWARE=list(MIDDLEWARE[:-1]), HttpResponse=HttpResponse)
    assert named["INSTALLED_APPS"] == ["insend_relay.producers.django"]
    with override_settings(MIDDLEWARE=named["MIDDLEWARE"], INSEND={"VISITOR_UID": logged_in}, ROOT_URLCONF=__name__):
        call_command("check")
        client = Client(headers={"host": "shop.example.com"})
        client.cookies["convead_guest_uid"] = "g.1"
        assert client.get("/buy").content == b"Thank you"
    check(insend_events)


def test_in_flask(insend_events: RecordedEvents) -> None:
    app = flask.Flask("shop")
    app.secret_key = "invented"
    run(FLASK, app=app, session=flask.session)
    client = app.test_client()
    client.set_cookie("convead_guest_uid", "g.1")
    with client.session_transaction() as session:
        session["customer"] = "customer-42"
    assert client.post("/buy").text == "Thank you"
    check(insend_events)


def test_in_fastapi(insend_events: RecordedEvents) -> None:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, secret_key="invented")  # noqa: S106 - it is
    run(FASTAPI, app=app)

    @app.post("/login")
    async def login(request: Request) -> None:
        request.session["customer"] = "customer-42"

    with serving(app) as port:
        browser = Browser(port, convead_guest_uid="g.1")
        browser.open("POST", "/login", b"")
        assert browser.open("POST", "/buy", b"").status == 200
    check(insend_events)
