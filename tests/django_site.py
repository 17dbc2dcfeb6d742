"""A tiny Django site whose views send events: in the tests' own process, or ``served``.

Importing it configures Django, once for the process. It needs no table: sessions are signed cookies, and whoever logs
in as ``/login/7`` is the user 7. What a view answers is what became of its events.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.signals import user_logged_in
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path
from django.utils.asyncio import async_unsafe
from waiting import PATIENCE_SECONDS

from insend_relay.producers.django import ainsend, insend

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "insend_relay.producers.django.middleware.InSendMiddleware",
]
SQLITE = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}

if not settings.configured:
    settings.configure(
        SECRET_KEY="for tests",  # noqa: S106 - it guards nothing
        ALLOWED_HOSTS=["127.0.0.1", "shop.example.com"],
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "insend_relay.producers.django"],
        MIDDLEWARE=MIDDLEWARE,
        AUTHENTICATION_BACKENDS=[f"{__name__}.Anybody"],
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
        DATABASES={"default": SQLITE, "other": SQLITE},
        LOGGING_CONFIG=None,
        USE_TZ=True,
    )
    django.setup()
    user_logged_in.disconnect(dispatch_uid="update_last_login")  # which would want a table

from django.contrib.auth import alogin, login  # noqa: E402 - only now do Django's models load
from django.contrib.auth.backends import BaseBackend  # noqa: E402 - as above
from django.contrib.auth.models import User  # noqa: E402 - as above


class Anybody(BaseBackend):  # type: ignore[misc]  # Django ships no type information
    """Every number is a user; like one in a database, not to be looked up in an event loop."""

    @async_unsafe("look a user up")  # type: ignore[untyped-decorator]  # as above
    def get_user(self, user_id: int) -> User:
        return User(pk=user_id, username=f"user-{user_id}")


def look(request: HttpRequest) -> HttpResponse:
    """One event."""
    return HttpResponse(insend.view_product(product_id=request.GET.get("product", 1)).where)


def nothing(_: HttpRequest) -> HttpResponse:
    """No event."""
    return HttpResponse("nothing")


def enter(request: HttpRequest, uid: int) -> HttpResponse:
    """An event before the login, and two after it."""
    before = insend.link().where
    login(request, User(pk=uid))
    return HttpResponse(f"{before} {insend.link().where} {insend.link().where}")


def bad(_: HttpRequest) -> HttpResponse:
    """An event that breaks the rules."""
    return HttpResponse(insend.event("view_product", {"product_idd": 1}).where)


def stream(_: HttpRequest) -> StreamingHttpResponse:
    """An event in the middle of the answer."""

    def parts() -> Iterator[str]:
        yield "streamed "
        yield insend.link().where

    return StreamingHttpResponse(parts())


async def alook(request: HttpRequest) -> HttpResponse:
    """One event."""
    receipt = await ainsend.view_product(product_id=request.GET.get("product", 1))
    return HttpResponse(receipt.where)


async def aenter(request: HttpRequest, uid: int) -> HttpResponse:
    """An event before the login, two after it, and one from plain code in a thread."""
    before = await ainsend.link()
    await alogin(request, User(pk=uid))
    after = [await ainsend.link(), await ainsend.link(), await sync_to_async(insend.link)()]
    return HttpResponse(" ".join([before.where, *(receipt.where for receipt in after)]))


async def astream(_: HttpRequest) -> StreamingHttpResponse:
    """An event in the middle of the answer."""

    async def parts() -> AsyncIterator[str]:
        yield "streamed "
        yield (await ainsend.link()).where

    return StreamingHttpResponse(parts())


_both_here = threading.Barrier(2, timeout=PATIENCE_SECONDS)
_both_in_loop = asyncio.Barrier(2)


def together(_: HttpRequest) -> HttpResponse:
    """An event before, and one after another request has come as far as this one."""
    insend.link()
    _both_here.wait()
    return HttpResponse(insend.link().where)


async def atogether(_: HttpRequest) -> HttpResponse:
    """As ``together``."""
    await ainsend.link()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await _both_in_loop.wait()
    return HttpResponse((await ainsend.link()).where)


urlpatterns = [
    path("look", look),
    path("nothing", nothing),
    path("login/<int:uid>", enter),
    path("bad", bad),
    path("stream", stream),
    path("together", together),
    path("async/look", alook),
    path("async/login/<int:uid>", aenter),
    path("async/stream", astream),
    path("async/together", atogether),
]


def wsgi() -> Any:
    """What gunicorn serves."""
    return WSGIHandler()


def asgi() -> Any:
    """What uvicorn serves."""
    return ASGIHandler()


@contextmanager
def served(server: str, log: Path, environ: Mapping[str, str]) -> Iterator[int]:
    """The site in one process under a server of its own; yields its port on loopback.

    Args:
        server: ``wsgi`` for gunicorn with threads, ``asgi`` for uvicorn.
        log: Where its log goes.
        environ: Its ``INSEND_*`` variables.
    """
    command = {
        "wsgi": [
            "gunicorn",
            "--threads",
            "4",
            "--no-control-socket",
            "--bind",
            "fd://{fd}",
            "django_site:wsgi()",
        ],
        "asgi": ["uvicorn", "--fd", "{fd}", "--factory", "django_site:asgi"],
    }[server]
    with socket.create_server(("127.0.0.1", 0)) as listener, log.open("wb") as output:
        fd, port = listener.fileno(), listener.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", *(word.format(fd=fd) for word in command)],
            env={**os.environ, **environ, "PYTHONPATH": str(Path(__file__).parent)},
            stdout=output,
            stderr=output,
            pass_fds=[fd],
        )
    try:
        yield port  # a visitor waits in the listener's queue until the server is there
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_SECONDS)
        finally:
            process.kill()
