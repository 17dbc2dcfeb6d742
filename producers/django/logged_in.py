"""Who is logged in: ``request.user``, or what the project's own ``INSEND["VISITOR_UID"]`` returns for a request.

A project may have plain and async views, and one function has to do for both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.http import HttpRequest
from django.utils.module_loading import import_string

from insend_relay.producers.events import Id


class LoggedIn(NamedTuple):
    """How to find out who is logged in.

    Attributes:
        plain: For plain code.
        in_loop: For code in an event loop, which it must not block.
    """

    plain: Callable[[HttpRequest], Id | None]
    in_loop: Callable[[HttpRequest], Awaitable[Id | None]]

    def ask(self, request: HttpRequest) -> Id | Awaitable[Id | None] | None:
        """The visitor's uid, None for a guest; under asyncio to be awaited."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self.plain(request)
        return self.in_loop(request)


def logged_in_by(given: Any) -> LoggedIn:
    """What ``INSEND["VISITOR_UID"]`` stands for: a function, plain or async, its dotted path, or None for the default.

    Raises:
        ImportError: Nothing is at that path.
        TypeError: It is no function.
    """
    if given is None:
        function: Any = _user
    else:
        function = import_string(given) if isinstance(given, str) else given
    if not callable(function):
        raise TypeError(f"give a function of the request, or its dotted path, not a {type(function).__name__}")
    if iscoroutinefunction(function):
        return LoggedIn(async_to_sync(function), function)
    return LoggedIn(function, sync_to_async(function))


def _user(request: HttpRequest) -> Id | None:
    # Not ``auser``: it knows nothing of a middleware that has put another user here, nor always of a login just now.
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return None
    return user.pk if isinstance(user.pk, int) else str(user.pk)
