"""The connections of ``connect``'s pool. When a host has several addresses, each is the winner of a race."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from insend_relay.outbox.addresses import Addresses, SocketAddress
from insend_relay.outbox.hello import probe
from insend_relay.outbox.pinned import Opening, PinnedTcp, PinnedTls, PinnedUnix
from insend_relay.outbox.race import race
from insend_relay.outbox.redis_url import RedisUrl


class Racing(PinnedTcp):
    """Opens its socket by a race of pinned connections, and takes the winner's.

    redis-py then authenticates on that socket once more, which costs a new connection two round trips and no event any.

    Args:
        addresses: The host's.
        pinned: Makes a connection to one of them, with the same options.
        seconds: The time to resolve the name, and the time for all attempts together.
        options: redis-py's.
    """

    def __init__(self, *, addresses: Addresses, pinned: Callable[..., Any], seconds: float, **options: Any) -> None:
        super().__init__(**options)
        self._addresses = addresses
        self._pinned = pinned
        self._seconds = seconds

    def _connect(self) -> Any:
        found = self._addresses.resolve(self._seconds)
        if len(found) == 1:
            (self.address,) = found
            try:
                return super()._connect()
            finally:
                self.opened()
        winner = race([self._attempt(address) for address in found], self._seconds)
        if winner.primary:
            self._addresses.worked(winner.connection.address)
        return winner.connection.give_socket()

    def _attempt(self, address: SocketAddress) -> Opening:
        return Opening(self._pinned(address=address), lambda connection: probe(connection).is_primary)


class RacingTls(Racing, PinnedTls):
    """rediss://: with a single address it makes the handshake itself, otherwise the winner has made it."""


def racing_options(options: dict[str, Any], addresses: Addresses, *, tls: bool) -> dict[str, Any]:
    """The options that ``Racing`` needs beside redis-py's.

    Args:
        options: redis-py's, with ``socket_connect_timeout``.
        addresses: Those of the options' host, for all connections to it.
        tls: Whether they are for ``RacingTls``.
    """
    return {
        "addresses": addresses,
        "pinned": partial(PinnedTls if tls else PinnedTcp, **options),
        "seconds": options["socket_connect_timeout"],
    }


def racing(url: RedisUrl, options: dict[str, Any]) -> tuple[type[Any], dict[str, Any]]:
    """The connection class for an address, and the options that it needs beside redis-py's."""
    if url.kind == "unix":
        return PinnedUnix, {}
    tls = url.kind == "tls"
    return RacingTls if tls else Racing, racing_options(options, Addresses(url.host, url.port), tls=tls)
