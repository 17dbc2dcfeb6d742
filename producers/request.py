"""The web request that a handler serves: whose it is, on which page, and whether its visitor may be tracked.

A binding (``django``, ``flask``, ``asgi``) makes one for each request and binds it with ``serving``; every InSend of
the process then asks it at each event. The logged-in visitor is asked for at the event, not at the request's start, so
that a login inside the request counts.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property

from insend_relay.outbox.keys import GUEST_UID
from insend_relay.outbox.settings import Settings
from insend_relay.producers import known_cookie
from insend_relay.producers.events import Id
from insend_relay.producers.known_cookie import KnownCookie
from insend_relay.producers.page import usable_page
from insend_relay.producers.uids import usable_uids
from insend_relay.producers.visitor import Visitor

PRINTABLE = "!#$%&'()*+,/:;=?@[]~"  # what an address may have as it is, beside letters, digits and -._

_log = logging.getLogger("insend_relay.producers")

WhoIsIt = Callable[[], Id | Awaitable[Id | None] | None]


class Request:
    """What one web request says about its visitor.

    Args:
        settings: Where the names of the cookies stand.
        cookies: The request's cookies, as the framework reads them.
        visitor_uid: Returns the logged-in visitor's uid, None for a guest; may be a coroutine function under asyncio.
        url: The page's full address; likewise path, host and referrer. Values that no event may have count as none.
        path: See ``url``.
        host: See ``url``.
        referrer: See ``url``.
        debug: True when the application runs in debug or under test: bad events then raise, see ``INSEND_INVALID``.
        known: The cookie ``insend_known`` where several requests share it: one application inside another.

    Attributes:
        guest_uid: The guest's uid, "" when the cookie is missing or malformed.
        opted_out: Whether the visitor does not want to be tracked: the cookie is there, whatever its value (CONTRACT).
        known: Which accounts have been told who this guest is; the response sets its ``new_value`` as a cookie.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        cookies: Mapping[str, str],
        visitor_uid: WhoIsIt,
        url: str = "",
        path: str = "",
        host: str = "",
        referrer: str = "",
        debug: bool = False,
        known: KnownCookie | None = None,
    ) -> None:
        guest_uid = cookies.get(settings.guest_cookie, "")
        self.guest_uid = guest_uid if GUEST_UID.match(guest_uid) else ""
        self.opted_out = settings.opt_out_cookie in cookies
        self.debug = debug
        self.known = KnownCookie(cookies.get(known_cookie.NAME, "")) if known is None else known
        self._ask = visitor_uid
        self._page = url, path, host, referrer

    @cached_property
    def page(self) -> Visitor:
        """The page, as far as an event may carry it."""
        return usable_page(*self._page)

    def visitor_uid(self) -> Id | None:
        """The logged-in visitor; None for a guest, and when it cannot be found out."""
        try:
            answer = self._ask()
        except Exception:  # noqa: BLE001 - the application's code, and a call raises nothing but what it says
            _log.exception("the application's visitor_uid failed; the event counts as the guest's")
            return None
        if inspect.isawaitable(answer):
            if inspect.iscoroutine(answer):
                answer.close()
            _log.error("visitor_uid is a coroutine function: use AsyncInSend here; the event counts as the guest's")
            return None
        return answer

    async def visitor_uid_async(self) -> Id | None:
        """``visitor_uid`` for asyncio."""
        try:
            answer = self._ask()
            return await answer if inspect.isawaitable(answer) else answer
        except Exception:  # noqa: BLE001 - the application's code, and a call raises nothing but what it says
            _log.exception("the application's visitor_uid failed; the event counts as the guest's")
            return None

    def uids(self, app_key: str, visitor_uid: Id | None) -> tuple[Id | None, str]:
        """Both uids of an account's event: the guest's goes beside the visitor's until the account has been told."""
        if self.known.is_told(app_key, self.guest_uid, _sent_uid(visitor_uid)):
            return visitor_uid, ""
        return visitor_uid, self.guest_uid

    def tell(self, app_key: str, visitor_uid: Id) -> None:
        """An event that tells the account who this guest is has been kept."""
        self.known.tell(app_key, self.guest_uid, _sent_uid(visitor_uid))

    def forget(self, app_key: str) -> None:
        """An event of the guest alone has been kept: the next login tells the account whose it is."""
        self.known.forget(app_key)


def _sent_uid(visitor_uid: Id | None) -> str:
    """The uid as it is sent: an application may return anything, and its ``__str__`` may raise."""
    return usable_uids(Visitor(visitor_uid))[0]


_serving: ContextVar[Request | None] = ContextVar("insend_request", default=None)


def current() -> Request | None:
    """The request that this thread, task or greenlet serves."""
    return _serving.get()


def bind(request: Request | None) -> Request | None:
    """Bind a request to this thread, task or greenlet; returns the one that was bound before."""
    outer = _serving.get()
    _serving.set(request)
    return outer


@contextmanager
def serving(request: Request) -> Iterator[Request]:
    """Events inside the ``with`` belong to this request."""
    outer = bind(request)
    try:
        yield request
    finally:
        bind(outer)  # not reset(token): a framework may end a request in another context
