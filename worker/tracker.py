"""The HTTP client: one event is one POST, and every POST ends in an Outcome, never in an exception.

requests prepares the request and chooses the proxy and the certificates once, at start; each POST then goes straight to
the connection pool of an HTTPAdapter, with a URL, headers and pool that never change.

No redirect is followed (an event must not wander to another host), nothing is sent twice by a library, cookies are off,
TLS is verified, and the whole call has one deadline (``deadline``).
"""

from __future__ import annotations

import email.utils
import importlib.metadata
import socket
import threading
import time
from http.client import BadStatusLine, HTTPResponse
from typing import Any, cast

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NameResolutionError, NewConnectionError, SSLError
from urllib3.util.connection import allowed_gai_family

from insend_relay.outbox.errors import SettingsError
from insend_relay.outbox.record import Record
from insend_relay.worker.deadline import Watch, Watchdog
from insend_relay.worker.outcome import CUT, Outcome

BODY_BYTES = 4096  # as much of an answer as anybody will read
_current = threading.local()  # the Watch of the call that this thread is making

# application/x-www-form-urlencoded, as quote_plus does it, but in C: 18 us instead of 26 for 745 bytes
_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~")
_ESCAPES = ["+" if byte == ord(" ") else chr(byte) if byte in _SAFE else f"%{byte:02X}" for byte in range(256)]


class _WholeLines:
    """Reads lines; one that breaks off is none."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readline(self, limit: int) -> bytes:
        line: bytes = self._file.readline(limit)
        if line and not line.endswith(b"\n"):
            raise BadStatusLine("it breaks off")
        return line

    def close(self) -> None:
        self._file.close()


class _Answer(HTTPResponse):
    """An answer that breaks off in its status line is none, though it say "HTTP/1.1 200": it may be our own cut."""

    fp: Any

    def _read_status(self) -> tuple[str, int, str]:
        file, self.fp = self.fp, _WholeLines(self.fp)
        try:
            status: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]  # the stubs do not have it
        finally:
            self.fp = self.fp and file  # None once it is closed
        return status


class _Watched:
    """Tells the current call's Watch of the connection it uses, and of the moment when sending begins."""

    response_class: Any = _Answer
    sock: Any

    def _new_conn(self) -> socket.socket:
        """Connect to the first address that answers; all of them together have what is left of the deadline."""
        host, port, options = self._dns_host, self.port, self.socket_options or ()  # type: ignore[attr-defined]
        try:
            addresses = socket.getaddrinfo(host, port, family=allowed_gai_family(), type=socket.SOCK_STREAM)
        except OSError as error:
            raise NameResolutionError(host, self, error) from error  # type: ignore[arg-type]
        failure: OSError | None = None
        for family, kind, protocol, _, address in addresses:
            try:
                connection = socket.socket(family, kind, protocol)
            except OSError as error:  # a family that this machine does not have
                failure = error
                continue
            try:
                _call().follow(connection)
                for option in options:
                    connection.setsockopt(*option)
                connection.settimeout(_call().rest)
                connection.connect(address)
            except OSError as error:
                connection.close()
                failure = error
            else:
                return connection
        if isinstance(failure, TimeoutError) or _call().cut:
            raise ConnectTimeoutError("no address answered in time") from failure
        raise NewConnectionError(self, str(failure)) from failure  # type: ignore[arg-type]

    def request(self, *args: Any, **kwargs: Any) -> None:
        call = _call()
        if self.sock is None:
            self.connect()  # type: ignore[attr-defined]
        call.follow(self.sock)
        if call.cut or time.monotonic() > call.expires:
            raise ConnectTimeoutError(call.cut or "connecting took the whole deadline")
        call.sent = True
        super().request(*args, **kwargs)  # type: ignore[misc]


class _WatchedHTTP(_Watched, HTTPConnection):
    pass


class _WatchedHTTPS(_Watched, HTTPSConnection):
    pass


class Tracker:
    """Posts events to one tracker.

    Args:
        url: Where to; http or https.
        timeout_seconds: The deadline of one POST, from connecting to the end of the answer.
        connections: How many are kept open: as many as there are concurrent calls.
    """

    def __init__(self, url: str, *, timeout_seconds: float, connections: int) -> None:
        self._watchdog = Watchdog(timeout_seconds)
        self._adapter = HTTPAdapter(pool_connections=1, pool_maxsize=connections, max_retries=0)
        with requests.Session() as session:
            around = session.merge_environment_settings(url, {}, None, None, None)
            if (select_proxy(url, around["proxies"]) or "").startswith("socks"):
                raise SettingsError(["ALL_PROXY, HTTPS_PROXY: a SOCKS proxy is not supported; name an HTTP proxy"])
            session.trust_env = False  # from here on: no credentials from a .netrc
            request = session.prepare_request(requests.Request("POST", url, headers=_headers()))
        pool = self._adapter.get_connection_with_tls_context(
            request, verify=around["verify"], proxies=around["proxies"], cert=around["cert"]
        )
        self._pool = cast("urllib3.HTTPConnectionPool", pool)
        self._pool.ConnectionCls = _WatchedHTTPS if self._pool.scheme == "https" else _WatchedHTTP
        self._target = self._adapter.request_url(request, around["proxies"])
        self._headers = dict(request.headers)
        self._headers.pop("Content-Length", None)  # each body has its own
        self._timeout = urllib3.Timeout(connect=timeout_seconds, read=timeout_seconds)

    def post(self, body: bytes) -> Outcome:
        """Send one event.

        Args:
            body: The form, from ``form``.
        """
        with self._watchdog.watch() as call:
            _current.call = call
            try:
                response = self._pool.urlopen(
                    "POST",
                    self._target,
                    body=body,
                    headers=self._headers,
                    retries=False,
                    redirect=False,
                    assert_same_host=False,
                    timeout=self._timeout,
                    preload_content=False,
                    decode_content=False,
                )
            except (HTTPError, OSError, ValueError) as error:
                return _without_answer(call, error)
            return Outcome.of_status(
                response.status, _read(response), _retry_after(response.headers.get("Retry-After"))
            )

    def cut(self) -> None:
        """End every call under way, at shutdown; their outcome is unknown."""
        self._watchdog.cut(CUT)

    def close(self) -> None:
        """Close the idle connections."""
        self._adapter.close()
        self._pool.close()
        self._watchdog.close()


def form(lane: str, record: Record) -> bytes:
    """The body of an event's POST: app_key, the uid or both, and the data object.

    Args:
        lane: The event's lane, from which app key and uid come.
        record: The event.
    """
    app, kind, uid = lane.split("/")
    whose = f"visitor_uid={uid}" if kind == "v" else f"guest_uid={uid}"
    if record.guest_uid:
        whose += f"&guest_uid={record.guest_uid}"
    data = record.payload.decode("latin-1").translate(_ESCAPES)
    return f"app_key={app}&{whose}&data={data}".encode("ascii")


def _headers() -> dict[str, str]:
    return {
        "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
        "Accept-Encoding": "identity",
        "User-Agent": f"insend-relay/{importlib.metadata.version('insend-relay')}",
    }


def _call() -> Watch:
    call: Watch = _current.call
    return call


def _without_answer(call: Watch, error: Exception) -> Outcome:
    """Before sending began the event was refused; afterwards nobody knows."""
    if isinstance(error, ConnectTimeoutError) and call.cut != CUT:  # the watchdog may have been the quicker one
        return Outcome("refused", answer=_in_words(error))
    return Outcome("unknown" if call.sent else "refused", answer=call.cut or _in_words(error))


def _in_words(error: Exception) -> str:
    """What went wrong, with nothing in it of what was sent."""
    match error:
        case NameResolutionError():
            return "no such host"
        case NewConnectionError():
            return "connection refused"
        case ConnectTimeoutError():
            return "connecting took too long"
        case SSLError():
            return "TLS failed"
    return "connection broken"


def _read(response: urllib3.BaseHTTPResponse) -> str:
    """The beginning of the body. The connection is kept only if the body ended there; its failure changes nothing."""
    try:
        body = response.read(BODY_BYTES + 1)
    except (HTTPError, OSError, ValueError):
        response.close()
        return ""
    if len(body) > BODY_BYTES:
        response.close()
    response.release_conn()
    return body[:BODY_BYTES].decode(errors="replace")


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
