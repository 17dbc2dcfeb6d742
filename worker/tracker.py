"""The HTTP client: one event is one POST, and every POST ends in an Outcome, never in an exception.

requests prepares the request and chooses the proxy and the certificates once, at start; urllib3 opens the connections.
What a POST itself needs then is a few lines, because URL, headers and pool never change (``exchange``): 40 us of CPU
where requests.post takes 730 (docs/benchmarks.md has the loops of either).

A call is made in a greenlet, of which a thread has hundreds. No redirect is followed (an event must not wander to
another host), nothing is sent twice by a library, cookies are off, TLS is verified, and the whole call has one
deadline, from looking up the host to the end of the answer.
"""

from __future__ import annotations

import email.utils
import importlib.metadata
import re
import ssl
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.client import HTTPException
from typing import Self, TypeVar, cast
from urllib.parse import urlsplit

import gevent
import requests
from requests.utils import select_proxy
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import HTTPError, NameResolutionError, NewConnectionError, SSLError
from urllib3.util.proxy import connection_requires_http_tunnel
from urllib3.util.ssl_match_hostname import CertificateError

from insend_relay.outbox.errors import SettingsError
from insend_relay.outbox.fault import Fault
from insend_relay.worker.adapter import HTTP, HTTPS, Adapter
from insend_relay.worker.exchange import Ended, receive, send
from insend_relay.worker.outcome import CUT, DELIVERED, Outcome

LATE = "late"
T = TypeVar("T")
_TUNNEL = re.compile(r"(?<=^Tunnel connection failed: )(?P<status>\d{3})\b[\w '-]{0,60}")  # http.client's words


class _Call:
    """One POST under way, in one greenlet; a context manager that raises Ended in it when the call must end.

    Attributes:
        sent: Whether sending the request has begun: from then on the tracker may have it.
        ended: Why it was ended from outside; empty when it was not.
    """

    __slots__ = ("_deadline", "_greenlet", "_loop", "_open", "ended", "sent")

    def __init__(self, seconds: float) -> None:
        self._greenlet, self._loop = gevent.getcurrent(), gevent.get_hub().loop
        self._deadline = self._loop.timer(seconds)
        self._open = False
        self.sent = False
        self.ended = ""

    def __enter__(self) -> Self:
        self._open = True
        self._deadline.start(self._end, LATE, update=True)  # from now, not from when the loop last looked at the clock
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False
        self._deadline.stop()
        self._deadline.close()

    def cut(self) -> None:
        """End it, from another greenlet of its thread."""
        self._loop.run_callback(self._end, CUT)

    def _end(self, why: str) -> None:
        if self._open and not self.ended:
            self.ended = why
            self._greenlet.throw(Ended)


class Tracker:
    """Posts events to one tracker; used by the greenlets of one thread.

    Args:
        url: Where to; http or https.
        timeout_seconds: The deadline of one POST, from looking up the host to the end of the answer.
        connections: How many are kept open: as many as there are concurrent calls.
    """

    def __init__(self, url: str, *, timeout_seconds: float, connections: int) -> None:
        self._timeout_seconds = timeout_seconds
        self._connections = connections
        self._calls: set[_Call] = set()
        self._idle: list[HTTPConnection] = []  # the last used at the end
        with requests.Session() as session:
            around = session.merge_environment_settings(url, {}, None, None, None)
            if (select_proxy(url, around["proxies"]) or "").lower().startswith("socks"):
                raise SettingsError(["ALL_PROXY, HTTPS_PROXY: a SOCKS proxy is not supported; name an HTTP proxy"])
            session.trust_env = False  # from here on: no credentials from a .netrc
            request = session.prepare_request(requests.Request("POST", url, headers=_headers()))
        self._adapter = Adapter(True if around["verify"] is None else around["verify"])
        pool = self._adapter.get_connection_with_tls_context(
            request, verify=True, proxies=around["proxies"], cert=around["cert"]
        )
        self._pool = cast("HTTPConnectionPool", pool)
        self._pool.ConnectionCls = HTTPS if self._pool.scheme == "https" else HTTP
        self._tunnels = connection_requires_http_tunnel(
            self._pool.proxy, self._pool.proxy_config, urlsplit(request.url or url).scheme
        )
        headers = dict(request.headers)
        if self._pool.proxy is not None and not self._tunnels:
            headers |= self._pool.proxy_headers
        self._head = _head(self._adapter.request_url(request, around["proxies"]), request.url or url, headers)

    def post(self, body: bytes) -> Outcome:
        """Send one event.

        Args:
            body: The form, from ``form.form``.
        """
        return self._called(lambda call: self._post(call, body))

    def try_connection(self) -> Outcome | None:
        """Open a connection as a POST does, by the same proxy and with the same trust, and close it; sends no event.

        Returns:
            None when that works; else how a POST would have ended. Call it in a greenlet.
        """
        return self._called(lambda _: self._take().close())

    def _called(self, work: Callable[[_Call], T]) -> T | Outcome:
        """Do the work of one call; whatever ends it is an Outcome."""
        call = _Call(self._timeout_seconds)
        self._calls.add(call)
        try:
            with call:
                return work(call)
        except Ended:
            return self._without_answer(call, call.ended)
        except (HTTPException, HTTPError, OSError, ValueError) as error:
            return self._without_answer(call, *_in_words(error))
        finally:
            self._calls.discard(call)

    def _post(self, call: _Call, body: bytes) -> Outcome:
        connection = self._take()
        reusable = False
        try:
            call.sent = True
            send(connection.sock, b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
            answer = receive(connection.sock)
            reusable = answer.reusable
        finally:
            if reusable and len(self._idle) < self._connections:
                self._idle.append(connection)
            else:
                connection.close()
        if answer.status == HTTPStatus.OK:
            return DELIVERED
        text, retry_after = answer.body.decode(errors="replace"), _retry_after(answer.retry_after)
        return Outcome.of_status(answer.status, text, retry_after, answer.location)

    def _take(self) -> HTTPConnection:
        """A connection that is open, and was not closed from the other side meanwhile."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_connected:
                return connection
            connection.close()
        connection = cast("HTTPConnection", self._pool._new_conn())  # noqa: SLF001 - what it makes is public, and knows all that the pool knows
        try:
            if self._tunnels:
                self._pool._prepare_proxy(connection)  # noqa: SLF001 - connects, by CONNECT
            else:
                connection.connect()
        except BaseException:
            connection.close()
            raise
        return connection

    def _without_answer(self, call: _Call, why: str, fault: Fault = "passing") -> Outcome:
        """Before sending began the event was refused; afterwards the outcome is unknown."""
        if call.ended == LATE:
            why = f"no whole answer within {self._timeout_seconds:g} s" if call.sent else "connecting took too long"
        if call.sent:  # the connection had been made: whatever ends it then passes
            return Outcome("unknown", answer=why)
        return Outcome("refused", answer=why, fault=fault)

    def cut(self) -> None:
        """End every call under way, at shutdown; their outcome is unknown."""
        for call in list(self._calls):
            call.cut()

    @property
    def proxy(self) -> str | None:
        """``HOST:PORT`` of the proxy in use, without user and password; None without one."""
        proxy = self._pool.proxy
        return None if proxy is None else f"{proxy.host}:{proxy.port}"

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()
        self._adapter.close()


def _headers() -> dict[str, str]:
    return {
        "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
        "Accept-Encoding": "identity",
        "User-Agent": f"insend-relay/{importlib.metadata.version('insend-relay')}",
    }


def _head(target: str, url: str, headers: Mapping[str, str]) -> bytes:
    """The request up to the number of bytes in its body, which comes last."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    lines = [f"POST {target} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers.items() if name.lower() != "content-length"]
    return "\r\n".join([*lines, "Content-Length: "]).encode("latin-1")


def _in_words(error: Exception) -> tuple[str, Fault]:
    """What went wrong, with nothing in it of what was sent, and whose fault that is."""
    if isinstance(error, NameResolutionError):
        return "no such host", "host"
    if isinstance(error, NewConnectionError):
        return "connection refused", "passing"
    if tunnel := _TUNNEL.search(str(error)):
        passes = tunnel["status"].startswith("5")
        return f"the proxy answered {tunnel[0]}", "passing" if passes else "proxy"
    if isinstance(error, SSLError | ssl.SSLError | CertificateError):
        return _tls_in_words(error)
    return "connection broken", "passing"


def _tls_in_words(error: BaseException | None) -> tuple[str, Fault]:
    """What is wrong with a certificate or with the handshake, in OpenSSL's words."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"TLS failed: {error.verify_message.rstrip('.')}", "certificate"
        if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return "connection broken", "passing"
        if isinstance(error, ssl.SSLError) and (reason := getattr(error, "reason", None)):
            return f"TLS failed: {reason.lower().replace('_', ' ')}", "certificate"
        error = error.__cause__ or error.__context__
    return "TLS failed", "certificate"


def _retry_after(header: str | None) -> float | None:
    """Seconds, from either form of Retry-After; None when there is none or it is garbage."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header.strip()[:9])
    try:
        moment = email.utils.parsedate_to_datetime(header)
        return max(0.0, moment.timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
