"""What a Django request says about its visitor. Nothing is read from it, but its cookies, before an event asks."""

from __future__ import annotations

from functools import cached_property

from django.conf import settings
from django.core import mail
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest

from insend_relay.producers.django.configuration import configuration
from insend_relay.producers.request import Request
from insend_relay.producers.validation import usable_page
from insend_relay.producers.visitor import Visitor


class DjangoRequest(Request):
    """A Django request; neither its session nor its user is touched unless an event is sent."""

    def __init__(self, http: HttpRequest) -> None:
        ours = configuration()
        super().__init__(
            settings=ours.settings,
            cookies=http.COOKIES,
            visitor_uid=lambda: ours.logged_in.ask(http),
            debug=settings.DEBUG or hasattr(mail, "outbox"),  # which only Django's test environment has
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
