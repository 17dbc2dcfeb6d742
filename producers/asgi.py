"""Binds the visitor to each request of an ASGI application: FastAPI, Starlette::

    insend = AsyncInSend.from_env()
    app = FastAPI()
    app.add_middleware(InSendMiddleware, insend=insend, visitor_uid=lambda request: request.session.get("customer"))

In a handler it is then ``await insend.purchase(...)``. Add it last, so that it is the outermost of the application's
middleware: all others may then send events. It asks ``visitor_uid`` at the event, when the inner ones have long put the
session and the user into the scope.

When the server starts it connects to Redis, and when the server shuts down it ends the connection after the
application's own lifespan.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from starlette.requests import HTTPConnection, cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from insend_relay.producers import known_cookie
from insend_relay.producers.async_insend import AsyncInSend
from insend_relay.producers.events import Id
from insend_relay.producers.insend import InSend
from insend_relay.producers.request import PRINTABLE, Request, bind

VisitorUid = Callable[[HTTPConnection], Id | Awaitable[Id | None] | None]

_IN_SCOPE = "insend_relay"  # where get_insend finds what the middleware was given
_KNOWN = "insend_relay.known"  # where a mounted application's middleware finds the cookie of the outer one
_SCHEMES = {"ws": "http", "wss": "https"}  # a websocket belongs to a page


def authenticated_user(connection: HTTPConnection) -> Id | None:
    """The identity of the user whom Starlette's AuthenticationMiddleware has found."""
    user: Any = connection.scope.get("user")
    identity: Id | None = user.identity if getattr(user, "is_authenticated", False) else None
    return identity


async def get_insend(connection: HTTPConnection) -> Any:
    """The InSend that the middleware was given: a dependency for FastAPI, which tests may override::

    Insend = Annotated[AsyncInSend, Depends(get_insend)]
    """
    try:
        return connection.scope[_IN_SCOPE]
    except KeyError:
        raise RuntimeError("no InSend here: app.add_middleware(InSendMiddleware, insend=...)") from None


class InSendMiddleware:
    """Binds the visitor to each request and websocket.

    Args:
        app: The application.
        insend: The application's AsyncInSend, or its InSend when all handlers are plain functions. Every other InSend
            of the process finds the visitor too, whatever its account; the names of the cookies are this one's.
        visitor_uid: Returns the logged-in visitor's uid, None for a guest. It may be a coroutine function where events
            are sent by an AsyncInSend.
    """

    def __init__(
        self, app: ASGIApp, *, insend: AsyncInSend | InSend, visitor_uid: VisitorUid = authenticated_user
    ) -> None:
        self._app = app
        self._insend = insend
        self._visitor_uid = visitor_uid

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request or a websocket, or live through the application's lifespan."""
        if scope["type"] in ("http", "websocket"):
            scope[_IN_SCOPE] = self._insend
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_mounted = _KNOWN in scope  # inside of another application that has a middleware of ours
        request = self._request(scope)
        scope[_KNOWN] = request.known

        async def send_known(message: Message) -> None:
            value = request.known.new_value
            if value is not None and message["type"] == "http.response.start":
                cookie = _set_cookie(value, secure=scope.get("scheme") == "https")
                message = {**message, "headers": [*message.get("headers", ()), (b"set-cookie", cookie)]}
            await send(message)

        outer = bind(request)
        try:
            await self._app(scope, receive, send if is_mounted else send_known)
        finally:
            request.ended = True
            bind(None if isinstance(outer, _Request) and outer.ended else outer)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_insend(message: Message) -> None:
            if isinstance(self._insend, AsyncInSend):  # an InSend belongs to the process, and to its next lifespan too
                if message["type"] == "lifespan.startup.complete":
                    await self._insend.connect()
                else:
                    await self._insend.aclose()
            await send(message)

        await self._app(scope, receive, with_insend)

    def _request(self, scope: Scope) -> _Request:
        host, referrer, cookies = _headers(scope)
        path, target = _path_and_target(scope)
        scheme = scope.get("scheme", "http")
        return _Request(
            settings=self._insend.settings,
            cookies=cookie_parser(cookies),
            visitor_uid=lambda: self._visitor_uid(HTTPConnection(scope)),
            url=f"{_SCHEMES.get(scheme, scheme)}://{host}{target}",
            path=path,
            host=host,
            referrer=referrer,
            debug=getattr(scope.get("app", self._app), "debug", False),
            known=scope.get(_KNOWN),
        )


class _Request(Request):
    """A request of an ASGI application.

    Attributes:
        ended: Whether its call has returned. Now and then asyncio hands the context of one request to the next on the
            same connection (https://github.com/python/cpython/issues/140947), and with it a request that has ended.
    """

    ended = False


def _headers(scope: Scope) -> tuple[str, str, str]:
    """The headers Host, Referer and Cookie. In one pass: most requests send no event."""
    host = referrer = b""
    cookies = []
    for name, value in scope["headers"]:
        if name == b"cookie":
            cookies.append(value)  # HTTP/2 may bring several
        elif name == b"host":
            host = host or value
        elif name == b"referer":
            referrer = referrer or value
    return host.decode("latin-1"), referrer.decode("latin-1"), b"; ".join(cookies).decode("latin-1")


def _path_and_target(scope: Scope) -> tuple[str, str]:
    """The page's path, and its address from there on, as its visitor sees them: with what a proxy cut off."""
    path, root = scope["path"], scope.get("root_path", "").rstrip("/")
    cut_off = "" if path == root or path.startswith(f"{root}/") else root
    target = scope.get("raw_path") or quote(path, errors="replace").encode()
    if scope.get("query_string"):
        target += b"?" + scope["query_string"]
    return cut_off + path, quote(cut_off, errors="replace") + quote(target, safe=PRINTABLE)


def _set_cookie(value: str, *, secure: bool) -> bytes:
    max_age = known_cookie.options(value)["max_age"]
    cookie = f"{known_cookie.NAME}={value}; Max-Age={max_age}; Path=/; HttpOnly; SameSite=Lax"
    return (f"{cookie}; Secure" if secure else cookie).encode()
