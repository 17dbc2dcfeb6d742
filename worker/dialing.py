"""Opening a TCP connection to a host with several addresses: happy eyeballs (RFC 8305), in greenlets.

The host is looked up, the families take turns, and the first address is tried. The next one starts when the one before
it has failed, or beside it after 250 ms. The first connection that is open wins, and the others are closed. So an
address that swallows packets costs 250 ms, once: an address that has answered a request is tried first from then on,
and one on which a handshake or a request got no answer is tried last.

TLS is not part of the race. A handshake with a distant or busy tracker takes longer than 250 ms, and a second one
beside it would double the tracker's most expensive work when it is busy. What the race does not see (an address that
accepts connections and then is silent) is learnt from the outcome of the POST instead: the next dial begins with
another address.

There is no time limit here: the call that dials has a deadline of its own, and raises in this greenlet when it is over.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Sequence
from typing import Any

import gevent
import gevent.queue
import gevent.socket
from urllib3.util.connection import allowed_gai_family

from insend_relay.outbox.addresses import NEXT_ADDRESS_SECONDS, SocketAddress, interleaved
from insend_relay.outbox.keep_alive import keep_alive


class Dialer:
    """Opens the connections to one host, and remembers which of its addresses work."""

    def __init__(self) -> None:
        self._worked: SocketAddress | None = None
        self._failed: dict[SocketAddress, float] = {}

    def resolve(self, host: str, port: int) -> list[SocketAddress]:
        """The addresses of a host, in the order in which they are to be tried.

        Raises:
            OSError: There are none.
        """
        found = gevent.socket.getaddrinfo(host, port, family=allowed_gai_family(), type=socket.SOCK_STREAM)
        addresses = interleaved(dict.fromkeys(SocketAddress(family, place) for family, _, _, _, place in found))
        if len(addresses) > 1:
            self._failed = {address: at for address, at in self._failed.items() if address in addresses}
            addresses.sort(key=lambda address: (self._failed.get(address, 0.0), address != self._worked))
        return addresses

    def connect(
        self, addresses: Sequence[SocketAddress], options: Iterable[tuple[int, int, int]]
    ) -> tuple[Any, SocketAddress]:
        """A connection to the first of these addresses that takes one.

        Args:
            addresses: From ``resolve``.
            options: For ``setsockopt``.

        Raises:
            OSError: No address takes a connection; what the last one said.
        """
        if len(addresses) == 1:
            connection = _socket(addresses[0], options)
            try:
                connection.connect(addresses[0].place)
            except BaseException:
                connection.close()
                raise
            return connection, addresses[0]
        return _Race(self, options).run(addresses)

    def worked(self, address: SocketAddress) -> None:
        """The address has answered a request."""
        self._worked = address
        self._failed.pop(address, None)

    def failed(self, address: SocketAddress) -> None:
        """The address took no connection, or was silent on one."""
        self._failed[address] = time.monotonic()
        if self._worked == address:
            self._worked = None


class _Race:
    """Connects to several addresses, one beside the other; only the winner stays open."""

    def __init__(self, dialer: Dialer, options: Iterable[tuple[int, int, int]]) -> None:
        self._dialer = dialer
        self._options = options
        self._running: dict[SocketAddress, Any] = {}  # the sockets
        self._ended: gevent.queue.SimpleQueue[tuple[SocketAddress, OSError | None]] = gevent.queue.SimpleQueue()

    def run(self, addresses: Sequence[SocketAddress]) -> tuple[Any, SocketAddress]:
        failure: OSError | None = None
        left = list(reversed(addresses))
        try:
            while left or self._running:
                if left:
                    failure = self._start(left.pop()) or failure
                if not self._running:
                    continue
                try:
                    address, error = self._ended.get(timeout=NEXT_ADDRESS_SECONDS if left else None)
                except gevent.queue.Empty:
                    continue
                connection = self._running.pop(address)
                if error is None:
                    return connection, address
                connection.close()
                self._dialer.failed(address)
                failure = error
        finally:
            for loser in self._running.values():
                loser.close()
        raise failure or OSError("the host has no address")

    def _start(self, address: SocketAddress) -> OSError | None:
        """Begin to connect; what is wrong when that cannot even begin."""
        try:
            connection = _socket(address, self._options)
        except OSError as error:  # a family that this machine does not have
            return error
        self._running[address] = connection
        gevent.spawn_raw(self._attempt, address, connection)
        return None

    def _attempt(self, address: SocketAddress, connection: Any) -> None:
        error = None
        try:
            connection.connect(address.place)
        except OSError as failure:  # as well when it has lost and is closed
            error = failure
        self._ended.put((address, error))


def _socket(address: SocketAddress, options: Iterable[tuple[int, int, int]]) -> Any:
    connection = gevent.socket.socket(address.family, socket.SOCK_STREAM)
    keep_alive(connection)
    for option in options:
        connection.setsockopt(*option)
    return connection
