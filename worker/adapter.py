"""requests' adapter and urllib3's connections as greenlets need them: while one waits, the thread's others go on.

gevent would patch the standard library for that, but a pool process of Celery's is forked when all is loaded, and the
rest of it had better not change under anybody's feet. So these few lines name gevent's sockets and TLS themselves.
"""

from __future__ import annotations

import select
from pathlib import Path
from typing import Any

import gevent.socket
import gevent.ssl
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import NameResolutionError, NewConnectionError
from urllib3.util.connection import allowed_gai_family

from insend_relay.outbox.errors import SettingsError
from insend_relay.worker.exchange import Ended


class _Cooperative:
    """Connects as gevent does: the thread's other greenlets go on meanwhile."""

    _readable: select.poll | None = None

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
        """Connect to the first address that answers; all of them together have the call's deadline."""
        self._readable = None
        host, port, options = self._dns_host, self.port, self.socket_options or ()  # type: ignore[attr-defined]
        try:
            addresses = gevent.socket.getaddrinfo(
                host, port, family=allowed_gai_family(), type=gevent.socket.SOCK_STREAM
            )
        except OSError as error:
            raise NameResolutionError(host, self, error) from error  # type: ignore[arg-type]
        failure: OSError | None = None
        for family, kind, protocol, _, address in addresses:
            try:
                connection = gevent.socket.socket(family, kind, protocol)
            except OSError as error:  # a family that this machine does not have
                failure = error
                continue
            try:
                for option in options:
                    connection.setsockopt(*option)
                connection.connect(address)
            except OSError as error:
                connection.close()
                failure = error
            except Ended:
                connection.close()
                raise
            else:
                return connection
        raise NewConnectionError(self, str(failure)) from failure  # type: ignore[arg-type]


class HTTP(_Cooperative, HTTPConnection):
    """http://"""


class HTTPS(_Cooperative, HTTPSConnection):
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
