"""requests' adapter and urllib3's connections as greenlets need them: while one waits, the thread's others go on.

gevent would patch the standard library for that, but a pool process of Celery's is forked when all is loaded, and the
rest of it had better not change under anybody's feet. So these few lines name gevent's sockets and TLS themselves.
"""

from __future__ import annotations

import select
import time
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
import gevent.ssl
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import NameResolutionError, NewConnectionError

from insend_relay.outbox.addresses import SocketAddress
from insend_relay.outbox.errors import SettingsError
from insend_relay.worker.dialing import Dialer
from insend_relay.worker.idle_connections import MAX_IDLE_SECONDS, expires_at

READABLE = 1  # libev's EV_READ


class Cooperative:
    """A connection that connects as gevent does: the thread's other greenlets go on meanwhile.

    Attributes:
        dialer: Opens the TCP connection.
        address: Where it leads; None before TCP is connected.
        accepted: Whether the server itself is known to have accepted it, not only the kernel of its machine.
        expires_at: Until when it may be used at all, by the monotonic clock.
        idle_seconds: For how long it may be idle.
        answered_at: When the last answer came; 0 before any.
    """

    dialer: Dialer
    address: SocketAddress | None = None
    accepted = False
    expires_at = 0.0
    idle_seconds = MAX_IDLE_SECONDS
    answered_at = 0.0
    _readable: select.poll | None = None
    _answer: Any = None  # a libev watcher

    def wait_for_answer(self) -> None:
        """Wait until something has come; reading before that costs a system call that fails, and its exception: 3 us.

        Bytes that TLS has decrypted already, which no watcher of the socket sees, are not waited for.
        """
        connection = self.sock  # type: ignore[attr-defined]
        if isinstance(connection, gevent.ssl.SSLSocket) and connection.pending():
            return
        if self._answer is None:
            self._answer = gevent.get_hub().loop.io(connection.fileno(), READABLE)
        gevent.socket.wait(self._answer)

    def close(self) -> None:
        """As urllib3's."""
        if self._answer is not None:
            self._answer.close()
            self._answer = None
        super().close()  # type: ignore[misc]

    @property
    def is_connected(self) -> bool:
        """As urllib3's, which makes a new poll object for each look: that takes 9 us, this 1."""
        connection = self.sock  # type: ignore[attr-defined]
        if connection is None:
            return False
        if self._readable is None:
            self._readable = select.poll()
            self._readable.register(connection, select.POLLIN)
        return not self._readable.poll(0)

    def _new_conn(self) -> Any:
        """The TCP connection, to the tracker or to its proxy; all addresses together have the call's deadline."""
        self._readable = None
        host, port, options = self._dns_host, self.port, self.socket_options or ()  # type: ignore[attr-defined]
        try:
            addresses = self.dialer.resolve(host, port)
        except OSError as error:
            raise NameResolutionError(host, self, error) from error  # type: ignore[arg-type]
        try:
            connection, self.address = self.dialer.connect(addresses, options)
        except OSError as error:
            raise NewConnectionError(self, str(error)) from error  # type: ignore[arg-type]
        self.expires_at = expires_at(time.monotonic())
        return connection


class HTTP(Cooperative, HTTPConnection):
    """http://"""


class HTTPS(Cooperative, HTTPSConnection):
    """https://"""


class Adapter(HTTPAdapter):
    """requests' adapter; while TLS waits, the thread's other greenlets go on.

    Args:
        verify: What to trust, as requests says it: True, or a file or folder of certificates.
    """

    def __init__(self, verify: bool | str) -> None:  # noqa: FBT001 - requests' own type
        self._context = _tls(verify)
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """For connections straight to the tracker."""
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """For connections by a proxy."""
        return super().proxy_manager_for(proxy, **kwargs, ssl_context=self._context, proxy_ssl_context=self._context)


def _tls(verify: bool | str) -> gevent.ssl.SSLContext:  # noqa: FBT001 - as above
    context = gevent.ssl.SSLContext(gevent.ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = gevent.ssl.TLSVersion.TLSv1_2
    if isinstance(verify, str):
        try:
            context.load_verify_locations(**{"capath" if Path(verify).is_dir() else "cafile": verify})
        except OSError as error:
            raise SettingsError([f"REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE: no certificates in {verify}"]) from error
    else:
        context.load_default_certs()
        context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)  # for a machine that has none
    return context
