"""Binds the visitor to each request of a Flask application::

    insend = FlaskInSend()

    def create_app():
        app = Flask(__name__)
        insend.init_app(app, visitor_uid=lambda: session.get("customer"))
        return app

In a view it is then ``insend.purchase(...)``. Settings are ``app.config["INSEND_APP_KEY"]`` and its like; what it does
not say is taken from the environment.

Whose an event is follows Flask's own request context, wherever Flask takes it: into error handlers, streamed bodies,
``copy_current_request_context`` and ``test_request_context``. So nothing of ours can outlive a request.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import quote
from weakref import WeakKeyDictionary

import flask
from flask import Flask, Response, current_app, has_request_context, request_finished, request_started
from flask.cli import AppGroup
from werkzeug.exceptions import SecurityError

from insend_relay.outbox.errors import SettingsError
from insend_relay.outbox.settings import Settings
from insend_relay.producers import known_cookie
from insend_relay.producers.calls import Asked, Calls
from insend_relay.producers.configured import as_variable, become_insend, commands, environment
from insend_relay.producers.events import Id
from insend_relay.producers.insend import InSend
from insend_relay.producers.page import usable_page
from insend_relay.producers.receipt import Receipt
from insend_relay.producers.request import PRINTABLE, Request, bind, current
from insend_relay.producers.visitor import Visitor

VisitorUid = Callable[[], Id | None]

_EXTENSION = "insend"  # in app.extensions, and as a command of flask
_OURS = "insend_relay"  # the attribute of Flask's request that has ours
_PREFIX = "INSEND_"
_IN_PATH = "!$&'()*+,/:;=@~"  # likewise a path, which is no longer percent-encoded


def flask_login_user() -> Id | None:
    """The user of Flask-Login, where the application uses it; None for a guest, and everywhere else."""
    if not hasattr(current_app, "login_manager"):
        return None
    user = importlib.import_module("flask_login").current_user  # by its name: it need not be installed
    uid: Id | None = user.get_id() if user.is_authenticated else None
    return uid


class FlaskInSend(Calls[Receipt]):
    """What a view calls; see ``InSend``.

    One object serves any number of applications, each by its own settings. In a request or ``app.app_context()`` the
    events are that application's; elsewhere, as in a background thread, they are those of the only account.

    Args:
        app: The application; left out where a factory calls ``init_app``.
        visitor_uid: Returns the logged-in visitor's uid, None for a guest. It is asked at each event, inside the
            request. By default it is Flask-Login's user, if the application has one.
    """

    def __init__(self, app: Flask | None = None, *, visitor_uid: VisitorUid = flask_login_user) -> None:
        super().__init__()
        self._visitor_uid = visitor_uid
        self._accounts: WeakKeyDictionary[Flask, _Account] = WeakKeyDictionary()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, *, visitor_uid: VisitorUid | None = None) -> None:
        """Serve this application.

        Args:
            app: The application. Its settings are read now.
            visitor_uid: As for the class, for this application alone.

        Raises:
            SettingsError: It lists what is wrong with the settings.
        """
        if _EXTENSION in app.extensions:
            raise RuntimeError("this application has a FlaskInSend already")
        insend = InSend(settings=Settings.from_env({**os.environ, **_variables(app)}))
        self._accounts[app] = _Account(insend, visitor_uid or self._visitor_uid)
        app.extensions[_EXTENSION] = self
        app.cli.add_command(_Console(app))
        app.wsgi_app = _unbound_afterwards(app.wsgi_app)  # type: ignore[method-assign]  # Flask's documented way
        request_started.connect(self._start, app)
        request_finished.connect(self._finish, app)

    def guest_uid_for(self, order_id: Id) -> str:
        """A stable guest uid for an order that is made without a visitor; see ``Calls.guest_uid_for``."""
        return self._account().insend.guest_uid_for(order_id)

    def take(self, asked: Asked) -> Receipt:
        """Keep a call's event in Redis."""
        account = self._account()
        if has_request_context():
            asked = asked._replace(request=_request(account))
        return account.insend.take(asked)

    def close(self) -> None:
        """End the connections to Redis, of all applications; later calls raise NotAccepted."""
        for account in self._accounts.values():
            account.insend.close()

    def _account(self) -> _Account:
        if current_app:
            account = self._accounts.get(_object(current_app))
            if account is None:
                raise RuntimeError("this application is unknown here: call init_app(app) when it is made")
            return account
        accounts = list(self._accounts.values())
        if not accounts:
            raise RuntimeError("no application is known yet: call init_app(app) first")
        if len({account.insend.settings for account in accounts}) > 1:
            raise RuntimeError("applications of several accounts are known: send inside `with app.app_context():`")
        return accounts[-1]

    def _start(self, app: Flask, **_: Any) -> None:
        bind(_request(self._accounts[app]))  # for the process's other InSends

    def _finish(self, app: Flask, response: Response, **_: Any) -> None:
        value = _request(self._accounts[app]).known.new_value
        if value is not None:
            secure = flask.request.is_secure
            response.set_cookie(known_cookie.NAME, value, secure=secure, **known_cookie.options(value))


class FlaskRequest(Request):
    """A Flask request; neither its session nor its user is touched unless an event is sent."""

    def __init__(self, http: flask.Request, settings: Settings, visitor_uid: VisitorUid, *, debug: bool) -> None:
        super().__init__(settings=settings, cookies=http.cookies, visitor_uid=visitor_uid, debug=debug)
        self._http = http

    @cached_property
    def page(self) -> Visitor:
        """The page, as far as an event may carry it."""
        http = self._http
        try:
            host = http.host if "Host" in http.headers else ""
        except SecurityError:
            host = ""  # Flask answers for it; an event does without
        raw = (http.environ.get("SCRIPT_NAME", "") + http.environ.get("PATH_INFO", "")).encode("latin-1")
        url = f"{http.scheme}://{host}{quote(raw, safe=_IN_PATH)}" if host else ""
        if url and http.query_string:
            url += f"?{quote(http.query_string, safe=PRINTABLE)}"
        return usable_page(url, raw.decode(errors="replace"), host, http.headers.get("Referer", ""))


class _Account(NamedTuple):
    """Where an application's events go, and who is logged in to it."""

    insend: InSend
    visitor_uid: VisitorUid


class _Console(AppGroup):
    """``flask insend``: the ``insend`` command by the application's settings, with its own texts and exit codes."""

    def __init__(self, app: Flask) -> None:
        super().__init__(_EXTENSION, help="Insend Relay: status, replay, audit and more.")
        self._app = app

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Parse the command line of ``insend``, which is in charge then; a worker becomes the process."""
        variables = _variables(self._app)
        if args[:1] == ["worker"] and not extra.get("resilient_parsing"):  # which is what completes a line in a shell
            become_insend(args, variables)
        context = commands().cli.make_context(info_name, args, parent, **extra)
        context.with_resource(environment(variables))
        return context


def _request(account: _Account) -> FlaskRequest:
    """Ours for the request that Flask serves here; made when it is first asked for."""
    ours: FlaskRequest | None = getattr(flask.request, _OURS, None)
    if ours is None:
        debug = current_app.debug or current_app.testing
        ours = FlaskRequest(_object(flask.request), account.insend.settings, account.visitor_uid, debug=debug)
        setattr(flask.request, _OURS, ours)
    return ours


def _object(proxy: Any) -> Any:
    """What one of Flask's proxies stands for here: it may be needed elsewhere."""
    return proxy._get_current_object()  # noqa: SLF001 - Werkzeug's documented way


def _unbound_afterwards(wsgi_app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """The same application; whatever becomes of a request, the next one in its thread finds nothing bound."""

    def serve(environ: Any, start_response: Any) -> Iterable[bytes]:
        outer = current()
        try:
            return wsgi_app(environ, start_response)
        finally:
            bind(outer)

    return serve


def _variables(app: Flask) -> dict[str, str]:
    """The application's settings as environment variables; SettingsError lists every one that cannot be."""
    written: dict[str, str] = {}
    faults: list[str] = []
    for name, value in app.config.items():
        if not name.startswith(_PREFIX):
            continue
        try:
            written[name] = as_variable(value)
        except TypeError as error:
            faults.append(f'app.config["{name}"]: {error}')
    if faults:
        raise SettingsError(faults)
    return written
