"""Each code block in docs/django.md is true."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import call_command, get_commands
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import path
from django_site import MIDDLEWARE

from insend_relay.producers.testing import RecordedEvents

DOC = (Path(__file__).parents[2] / "docs" / "django.md").read_text(encoding="utf-8")
HOST = "shop.example.com"


def block(word: str) -> dict[str, Any]:
    """The names that the Python block with this word defines."""
    (found,) = [code for code in re.findall(r"```python\n(.*?)```", DOC, re.DOTALL) if word in code]
    names: dict[str, Any] = {"INSTALLED_APPS": [], "MIDDLEWARE": list(MIDDLEWARE[:-1]), "INSEND": {}}
    exec(found, names)  # noqa: S102 - our own documentation
    return names


def visitor_uid(request: HttpRequest) -> Any:
    """The project's own function."""
    return request.headers.get("x-customer")


def buy(request: HttpRequest) -> HttpResponse:
    saved: list[bool] = []
    block("order.save()")["buy"](request, SimpleNamespace(pk=1042, total=5, save=lambda: saved.append(True)))
    return HttpResponse(str(saved))


def look(request: HttpRequest) -> HttpResponse:
    block('"looked"')["product_page"](request, 7)
    return HttpResponse()


async def alook(request: HttpRequest) -> HttpResponse:
    await block("ainsend")["product_page"](request, 7)
    return HttpResponse()


urlpatterns = [path("buy", buy), path("look", look), path("alook", alook)]


@pytest.fixture
def client() -> Iterator[Client]:
    """As the page's own settings make it."""
    named = block("INSTALLED_APPS")
    assert named["INSTALLED_APPS"] == ["insend_relay.producers.django"]
    ours = {**named["INSEND"], "VISITOR_UID": visitor_uid}
    with override_settings(MIDDLEWARE=named["MIDDLEWARE"], INSEND=ours, ROOT_URLCONF=__name__):
        call_command("check")
        yield Client(headers={"host": HOST, "x-customer": "42"})


def test_its_views_send_what_they_say(client: Client, insend_events: RecordedEvents) -> None:
    client.get("/look")
    client.get("/alook")
    assert [(event.type, event.visitor_uid) for event in insend_events] == [
        ("view_product", "42"),
        ("custom", "42"),
        ("view_product", "42"),
    ]


def test_its_test_passes(client: Client, insend_events: RecordedEvents) -> None:
    test: Callable[..., None] = block("test_an_order_is_reported")["test_an_order_is_reported"]
    test(client, None, insend_events)


def test_it_names_a_function_of_the_example_shop() -> None:
    dotted = block("VISITOR_UID")["INSEND"]["VISITOR_UID"]
    module, _, function = dotted.rpartition(".")
    source = Path(__file__).parents[2] / "examples" / "django" / Path(*module.split(".")).with_suffix(".py")
    assert f"def {function}(" in source.read_text(encoding="utf-8")


def test_it_names_every_command() -> None:
    named = set(re.findall(r"^\$ python manage.py (\w+)", DOC, re.MULTILINE))
    assert named == {name for name in get_commands() if name.startswith("insend_")}


def test_an_async_view_may_be_called_without_a_request(insend_events: RecordedEvents) -> None:
    with override_settings(INSEND={"ENABLED": False}):
        asyncio.run(block("ainsend")["product_page"](None, 7))
    assert insend_events.not_sent[0].where == "no_visitor"
