"""The middleware that tells every event of a request whose it is and on which page it happened."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase

from insend_relay.producers import known_cookie
from insend_relay.producers.django.request import DjangoRequest
from insend_relay.producers.django.shared import the_insend
from insend_relay.producers.django.streaming import bind_stream
from insend_relay.producers.request import serving


class InSendMiddleware:
    """``MIDDLEWARE = [..., "insend_relay.producers.django.middleware.InSendMiddleware"]``, after authentication.

    It serves plain and async requests alike. Faulty settings stop it where the server starts, with a SettingsError that
    lists them, rather than at a visitor's first event.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        the_insend()
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, http: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Serve one request."""
        if self._is_async:
            return self._serve_async(http)
        request = DjangoRequest(http)
        with serving(request):
            response = self._get_response(http)
        return _finish(http, request, response)

    async def _serve_async(self, http: HttpRequest) -> HttpResponseBase:
        request = DjangoRequest(http)
        with serving(request):
            response = await self._get_response(http)
        return _finish(http, request, response)


def _finish(http: HttpRequest, request: DjangoRequest, response: HttpResponseBase) -> HttpResponseBase:
    value = request.known.new_value
    if value is not None:
        response.set_cookie(known_cookie.NAME, value, secure=http.is_secure(), **known_cookie.options(value))
    bind_stream(response, request)
    return response
