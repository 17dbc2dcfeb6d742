"""Where Redis is, and how producers connect to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import redis
from redis.backoff import NoBackoff

from insend_relay.outbox.addresses import Addresses, SocketAddress
from insend_relay.outbox.connection import mapped
from insend_relay.outbox.durability import Question
from insend_relay.outbox.errors import OutboxError, OutboxUnreachable
from insend_relay.outbox.redis_url import Kind, RedisUrl

CONNECT_SECONDS = 5.0  # for TCP, TLS, authentication and a PING; no call ever waits for these
DOUBT_SECONDS = 0.005  # what a call waits for a connection after a late answer: a Redis in order needs 1 to 3 ms for it


class Late(OutboxUnreachable):
    """Redis did not answer a call in time. Until it has answered somebody, no other call gives it as long."""


def why_away(error: Exception) -> OutboxError:
    """What calls are told while connecting fails."""
    if isinstance(error, OutboxError):
        return error
    return mapped(error) if isinstance(error, redis.RedisError) else OutboxUnreachable(str(error))


class Address:
    """Where Redis is; SettingsError when ``url`` is wrong.

    Subclasses say which of redis-py's classes they connect with.

    Args:
        url: As in the settings.
        question: What calls will ask; a Redis that does not know it is of no use to them.

    Attributes:
        addresses: The host's; None for a Unix socket.
    """

    retry: ClassVar[type[Any]]
    kinds: ClassVar[Mapping[Kind, type[Any]]]

    def __init__(self, url: str, question: Question | None = None) -> None:
        self._question = question
        self._url = RedisUrl.parse(url)
        self.addresses = None if self._url.kind == "unix" else Addresses(self._url.host, self._url.port)
        self._options = {
            **self._url.connection_options(),
            "socket_timeout": CONNECT_SECONDS,
            "socket_connect_timeout": CONNECT_SECONDS,
            "retry": self.retry(NoBackoff(), 0),
            "retry_on_timeout": False,
            "health_check_interval": 0,
            "decode_responses": False,
            "protocol": 2,
            "client_name": "insend-relay-producer",
        }

    def __str__(self) -> str:
        return str(self._url)

    def connection(self, address: SocketAddress | None = None) -> Any:
        """A connection that is still to be opened, and that repeats nothing by itself.

        Args:
            address: One of the host's; None for a Unix socket.
        """
        pinned = {} if address is None else {"address": address}
        return self.kinds[self._url.kind](**self._options, **pinned)
