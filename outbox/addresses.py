"""The network addresses of a host name, in the order in which they are tried (RFC 8305, sections 4 and 5).

A name may lead to several servers: IPv6 and IPv4, or both nodes of a primary with its replica. The families alternate,
and the address that worked last comes first. ``Addresses`` is for Redis; the worker's connections to the tracker, which
greenlets open, have the order and the delay from here too (``worker/dialing.py``).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, zip_longest
from typing import Any, NamedTuple

from insend_relay.outbox.lookup import Lookups

MAX_ADDRESSES = 8  # of one name
NEXT_ADDRESS_SECONDS = 0.25  # until the next one is tried beside it (section 8, Connection Attempt Delay)


class SocketAddress(NamedTuple):
    """One address, as the socket module has it.

    Attributes:
        family: AF_INET or AF_INET6.
        place: The argument of ``socket.connect``.
    """

    family: int
    place: tuple[Any, ...]


class Addresses:
    """The addresses of one host name, resolved at each connection.

    Args:
        host: A name or an IP address.
        port: The port.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._lookups = Lookups(host, port)
        self._worked: SocketAddress | None = None

    def resolve(self, seconds: float) -> list[SocketAddress]:
        """The addresses by now, at least one.

        Args:
            seconds: The time for it.

        Raises:
            redis.TimeoutError: The name was not resolved in time.
            OSError: The name has no address.
        """
        return self._ordered(self._lookups.resolve(seconds))

    async def resolve_in_loop(self) -> list[SocketAddress]:
        """The same for asyncio; the caller sets the time limit."""
        return self._ordered(await self._lookups.resolve_in_loop())

    def worked(self, address: SocketAddress) -> None:
        """A primary has answered there: try it first the next time."""
        self._worked = address

    def _ordered(self, found: list[Any]) -> list[SocketAddress]:
        unique = dict.fromkeys(SocketAddress(int(entry[0]), entry[4]) for entry in found)
        if not unique:
            raise OSError(f"{self._host} has no address")
        return sorted(interleaved(unique), key=lambda each: each != self._worked)[:MAX_ADDRESSES]


def interleaved(addresses: Iterable[SocketAddress]) -> list[SocketAddress]:
    """The families in turn, that of the first address first; within a family the order stays (RFC 8305, section 4)."""
    families: dict[int, list[SocketAddress]] = {}
    for address in addresses:
        families.setdefault(address.family, []).append(address)
    return [address for address in chain.from_iterable(zip_longest(*families.values())) if address is not None]
