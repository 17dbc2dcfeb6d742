"""The HTTP client: one event is one POST, and every POST ends in an Outcome, never in an exception.

requests prepares the request and chooses the proxy and the certificates once, at start; urllib3 opens the connections.
What a POST itself needs then is a few lines, because URL, headers and pool never change (``exchange``): 40 us of CPU
where requests.post takes 730 (docs/benchmarks.md has the loops of either).

A call is made in a greenlet, of which a thread has hundreds. No redirect is followed (an event must not wander to
another host), nothing is sent twice by a library, cookies are off, TLS is verified, and the whole call has one
deadline, from looking up the host to the end of the answer.

Connections are kept open and used again (``idle_connections``). A POST that gets no answer is not sent again here: its
outcome is unknown, and is recorded in the outbox before the next attempt. All that follows from it here is that the
next POST uses a connection that has answered since, or a new one (``dialing``).
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
from typing import Concatenate, ParamSpec, TypeVar, cast
from urllib.parse import urlsplit

import gevent
import gevent.socket
import requests
from requests.utils import select_proxy
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import HTTPError, NameResolutionError, NewConnectionError, SSLError
from urllib3.util.proxy import connection_requires_http_tunnel
from urllib3.util.ssl_match_hostname import CertificateError

from insend_relay.outbox.errors import SettingsError
from insend_relay.outbox.fault import Fault
from insend_relay.worker.adapter import HTTP, HTTPS, Adapter
from insend_relay.worker.calls import LATE, Call, Calls
from insend_relay.worker.dialing import Dialer
from insend_relay.worker.exchange import Ended, NoAnswer, receive
from insend_relay.worker.idle_connections import IdleConnections
from insend_relay.worker.outcome import CUT, DELIVERED, Outcome
from insend_relay.worker.redial import Redial

RECORDED_SECONDS = 2.0  # within which an answer is recorded in Redis
DIALS_LOOK_SECONDS = 0.01  # between two looks whether the other dials have ended
ACCEPT_SECONDS = 0.1  # how long a new connection is watched before it is used, at a tracker that closes some at once
WATCH_SECONDS = 600.0  # how long they are watched after the last one that was closed
T = TypeVar("T")
P = ParamSpec("P")
_TUNNEL = re.compile(r"(?<=^Tunnel connection failed: )(?P<status>\d{3})\b[\w '-]{0,60}")  # http.client's words


class Tracker:
    """Posts events to one tracker; used by the greenlets of one thread.

    Args:
        url: Where to; http or https.
        timeout_seconds: The deadline of one POST, from looking up the host to the end of the answer.
        connections: How many are kept open: as many as there are concurrent calls.

    Attributes:
        redial: When to dial again after no connection could be opened and none is open.
    """

    def __init__(self, url: str, *, timeout_seconds: float, connections: int) -> None:
        self._timeout_seconds = timeout_seconds
        self._calls = Calls(timeout_seconds)
        self._idle = IdleConnections(connections)
        self._dialer = Dialer()
        self._dialing = 0
        self._in_flight = 0  # requests of which some has left
        self._watches_until = 0.0
        self._own_200s_until = time.monotonic()  # what Redis records later is another process's
        self.redial = Redial()
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

    def post(self, body: bytes, *, fresh: bool = False) -> Outcome:
        """Send one event.

        Args:
            body: The form, from ``form.form``.
            fresh: Whether to open a connection for it, whatever idle ones there are: whether the tracker takes events
                is not to be judged by a connection that something may have forgotten.
        """
        return self._called(self._post, body, fresh)

    def try_connection(self) -> Outcome | None:
        """Open a connection as a POST does, by the same proxy and with the same trust, and close it; sends no event.

        Returns:
            None when that works; else how a POST would have ended. Call it in a greenlet.
        """
        return self._called(lambda _: self._dial().close())

    def _called(self, work: Callable[Concatenate[Call, P], T], *args: P.args, **options: P.kwargs) -> T | Outcome:
        """Do the work of one call; whatever ends it is an Outcome."""
        call = self._calls.call()
        try:
            with call:
                return work(call, *args, **options)
        except Ended:
            return self._without_answer(call, call.ended)
        except (NoAnswer, HTTPException, HTTPError, OSError, ValueError) as error:
            return self._without_answer(call, *_in_words(error))

    def _post(self, call: Call, body: bytes, fresh: bool) -> Outcome:  # noqa: FBT001 - as in post
        connection = (None if fresh else self._idle.take(call.began_at)) or self._dialed_or_idle(call)
        answer = None
        try:
            request = b"%b%d\r\n\r\n%b" % (self._head, len(body), body)
            taken = connection.sock.send(request)  # when it raises, the kernel has taken nothing
            call.sent = True
            self._in_flight += 1
            if taken < len(request):
                connection.sock.sendall(memoryview(request)[taken:])
            connection.wait_for_answer()
            answer = receive(connection.sock)
        finally:
            self._in_flight -= call.sent
            if answer is None:
                self._unanswered(call, connection)
            elif answer.reusable:
                self._idle.put(connection, answer.idle_seconds)
            else:
                connection.close()
        self._own_200s_until = time.monotonic() + RECORDED_SECONDS
        if call.new:
            self.redial.worked()
            if connection.address is not None:
                self._dialer.worked(connection.address)
        if answer.status == HTTPStatus.OK:
            return DELIVERED
        text, retry_after = answer.body.decode(errors="replace"), _retry_after(answer.retry_after)
        return Outcome.of_status(answer.status, text, retry_after, answer.location)

    def _unanswered(self, call: Call, connection: HTTP | HTTPS) -> None:
        """The connection is of no use any more, and others may be in the same state: see ``drop_unanswered_since``."""
        connection.close()
        if call.ended == CUT:
            return
        self._avoid(connection)
        if call.sent and call.new and not (call.ended or connection.accepted):
            call.closed_at_once = True
            self._watches_until = time.monotonic() + WATCH_SECONDS
        else:
            self._idle.drop_unanswered_since(call.began_at)

    def _dialed_or_idle(self, call: Call) -> HTTP | HTTPS:
        """A new connection; when none can be opened, one that is idle: nothing has been sent yet."""
        call.new = True
        try:
            return self._dial()
        except (HTTPException, HTTPError, OSError, ValueError):
            while self._dialing and not self._in_flight:  # whether this is an outage, the other dials show
                gevent.sleep(DIALS_LOOK_SECONDS)
            connection: HTTP | HTTPS | None = self._idle.take(time.monotonic())
            if connection is None:
                raise
            call.new = False
            return connection

    def _dial(self) -> HTTP | HTTPS:
        """A new connection, with TLS and through the proxy as the settings want it."""
        connection = cast("HTTP | HTTPS", self._pool._new_conn())  # noqa: SLF001 - what it makes is public, and knows all that the pool knows
        connection.dialer = self._dialer
        self._dialing += 1
        try:
            if self._tunnels:
                self._pool._prepare_proxy(connection)  # noqa: SLF001 - connects, by CONNECT
            else:
                connection.connect()
            self._check_accepted(connection)
        except BaseException:
            connection.close()
            self._avoid(connection)
            raise
        finally:
            self._dialing -= 1
        return connection

    def _check_accepted(self, connection: HTTP | HTTPS) -> None:
        """See that the server has not closed a new connection at once, as one does that limits their number.

        After a TLS handshake or a CONNECT that is certain. Without them the kernel of the server's machine completes
        the connection and takes the request, whatever the server does then. So once a server has closed a new
        connection without a word, each further one is watched for a moment before anything is sent on it.

        Raises:
            ConnectionAbortedError: It is closed.
        """
        if self._pool.scheme == "https":
            connection.accepted = True
        elif time.monotonic() < self._watches_until:
            with gevent.Timeout(ACCEPT_SECONDS, False):
                gevent.socket.wait_read(connection.sock.fileno())
            if not connection.is_connected:
                self._watches_until = time.monotonic() + WATCH_SECONDS
                raise ConnectionAbortedError
            connection.accepted = True

    def _avoid(self, connection: HTTP | HTTPS) -> None:
        """Try other addresses first, if the host has any."""
        if connection.address is not None:
            self._dialer.failed(connection.address)

    def _without_answer(self, call: Call, why: str, fault: Fault = "passing") -> Outcome:
        """Before sending began the event was refused; afterwards the outcome is unknown."""
        if call.ended == LATE:
            why = f"no whole answer within {self._timeout_seconds:g} s" if call.sent else "connecting took too long"
        others = self._others_open(call) if call.new and fault == "passing" else 0
        if call.sent:  # the connection had been made: whatever ends it then passes
            if not call.closed_at_once:
                return Outcome("unknown", answer=why)
            return Outcome("unknown", answer=why, open_connections=others, unconnected=not others)
        unconnected = call.new and not others and call.ended != CUT
        if unconnected:
            self.redial.failed()
        return Outcome(
            "refused",
            answer=why,
            fault=fault,
            open_connections=others,
            unconnected=unconnected and fault == "passing",
        )

    def _others_open(self, call: Call) -> int:
        """How many connections are open besides that of a call which got none; 0 if there is doubt that they work."""
        if call.ended == CUT or (call.ended == LATE and self._idle.answered_at < call.began_at):
            return 0
        return len(self._idle) + self._in_flight

    @property
    def unanswered_seconds(self) -> float:
        """For how long this process has recorded no answer for certain: a 200 of this time is another process's.

        Negative soon after an answer. It begins with the process, which knows nothing of what was before.
        """
        return time.monotonic() - self._own_200s_until

    def cut(self) -> None:
        """End every call under way, at shutdown; their outcome is unknown."""
        self._calls.cut()

    @property
    def proxy(self) -> str | None:
        """``HOST:PORT`` of the proxy in use, without user and password; None without one."""
        proxy = self._pool.proxy
        return None if proxy is None else f"{proxy.host}:{proxy.port}"

    def close(self) -> None:
        """Close the idle connections."""
        self._calls.close()
        self._idle.close()
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
    if isinstance(error, NoAnswer):
        return str(error), "passing"
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
