"""redis-py's connections, each to one address of its host: what an attempt of a race opens."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis
from redis.connection import SSLConnection, UnixDomainSocketConnection

from insend_relay.outbox.addresses import SocketAddress


class PinnedTcp(redis.Connection):
    """redis://. The host's name stays in messages and, with TLS, in the verification of the certificate.

    Attributes:
        address: Where to connect.
    """

    def __init__(self, *, address: SocketAddress | None = None, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self.address = address
        self._handle: socket.socket | None = None

    def _connect(self) -> Any:
        if self.address is None:
            raise ValueError("a pinned connection needs an address")
        opened = socket.socket(self.address.family, socket.SOCK_STREAM)
        try:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.socket_keepalive:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for option, value in self.socket_keepalive_options.items():
                    opened.setsockopt(socket.IPPROTO_TCP, option, value)
            opened.settimeout(self.socket_connect_timeout)
            self._handle = opened.dup()  # TLS takes the descriptor away from this object
            opened.connect(self.address.place)
            opened.settimeout(self.socket_timeout)
        except BaseException:
            opened.close()
            raise
        return opened

    def interrupt(self) -> None:
        """From another thread: end what goes on, which then raises."""
        if (handle := self._handle) is not None:
            with suppress(OSError):  # not connected, or closed meanwhile
                handle.shutdown(socket.SHUT_RDWR)

    def opened(self) -> None:
        """The opening has ended; it can be interrupted no more."""
        if (handle := self._handle) is not None:
            self._handle = None
            handle.close()

    def give_socket(self) -> Any:
        """The open socket, for another connection object; this one forgets it."""
        given, self._sock = self._sock, None
        self._parser.on_disconnect()
        return given


class PinnedTls(SSLConnection, PinnedTcp):
    """rediss://"""


class PinnedUnix(UnixDomainSocketConnection):
    """unix://. A socket's file is one address, so there is no race and nothing to interrupt."""

    def interrupt(self) -> None:
        """See ``PinnedTcp.interrupt``."""

    def opened(self) -> None:
        """See ``PinnedTcp.opened``."""


class Opening:
    """An attempt: one pinned connection.

    Args:
        connection: A ``PinnedTcp`` or ``PinnedTls`` that is still closed.
        prove: Asks the server what it must know, on the open connection; returns whether it is a primary.

    Attributes:
        primary: Whether a primary has answered.
    """

    def __init__(self, connection: Any, prove: Callable[[Any], bool]) -> None:
        self.connection = connection
        self._prove = prove
        self.primary = False
        self._aborted = False
        self._done = False

    def run(self) -> bool:
        """Connect, authenticate and prove it; see ``race.Attempt``."""
        if self._is_aborted():
            raise redis.ConnectionError("another address was quicker")
        try:
            self.connection.connect()
            self.primary = self._prove(self.connection)
        except BaseException:
            self.connection.disconnect()
            raise
        finally:
            self.connection.opened()
        self._done = True
        if self._is_aborted():  # looked at after the step above, and ``abort`` does it the other way round
            self.connection.disconnect()
        return self.primary

    def _is_aborted(self) -> bool:
        return self._aborted

    def abort(self) -> None:
        """Close it; see ``race.Attempt``."""
        self._aborted = True
        if self._done:
            self.connection.disconnect()
        else:
            self.connection.interrupt()
