"""What a Django request says about its visitor. Nothing is read from it, but its cookies, before an event asks."""

from __future__ import annotations

from collections.abc import Awaitable
from functools import cached_property

from django.conf import settings
from django.core import mail
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest

from insend_relay.producers.django.configuration import configuration
from insend_relay.producers.django.logged_in import LoggedIn
from insend_relay.producers.django.savepoint import own_savepoint
from insend_relay.producers.events import Id
from insend_relay.producers.page import usable_page
from insend_relay.producers.request import Request
from insend_relay.producers.visitor import Visitor


def in_debug() -> bool:
    """Whether the project runs in debug or under test."""
    return settings.DEBUG or hasattr(mail, "outbox")  # which only Django's test environment has


def _ask(logged_in: LoggedIn, http: HttpRequest) -> Id | Awaitable[Id | None] | None:
    with own_savepoint():
        return logged_in.ask(http)


class DjangoRequest(Request):
    """A Django request; neither its session nor its user is touched unless an event is sent."""

    def __init__(self, http: HttpRequest) -> None:
        ours = configuration()
        super().__init__(
            settings=ours.settings,
            cookies=http.COOKIES,
            visitor_uid=lambda: _ask(ours.logged_in, http),
            debug=in_debug(),
        )
        self._http = http

    @cached_property
    def page(self) -> Visitor:
        """The page, as far as an event may carry it."""
        http = self._http
        try:
            host = http.get_host()
        except DisallowedHost:
            host = ""  # Django answers for it when a view asks; an event does without
        url = f"{http.scheme}://{host}{http.get_full_path()}" if host else ""
        return usable_page(url, http.path, host, http.META.get("HTTP_REFERER", ""))
