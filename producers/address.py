"""Where Redis is, and how producers connect to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import redis
from redis.backoff import NoBackoff

from insend_relay.outbox.connection import mapped, no_address
from insend_relay.outbox.durability import Question
from insend_relay.outbox.errors import OutboxError, OutboxUnreachable

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
    """Where Redis is; SettingsError when ``url`` is no address of one.

    Subclasses say which of redis-py's classes they connect with.

    Args:
        url: As in the settings.
        question: What calls will ask; a Redis that does not know it is of no use to them.
    """

    parse: ClassVar[Any]  # redis-py's reader of an address
    retry: ClassVar[type[Any]]
    kinds: ClassVar[Mapping[type, type[Any]]]  # what to use instead of the class that ``parse`` names
    plain: ClassVar[type[Any]]  # what to use when it names none of these

    def __init__(self, url: str, question: Question | None = None) -> None:
        self._question = question
        try:
            options: dict[str, Any] = type(self).parse(url)
            self._kind = self.kinds.get(options.pop("connection_class", self.plain), self.plain)
            self._options = {
                **options,
                "socket_timeout": CONNECT_SECONDS,
                "socket_connect_timeout": CONNECT_SECONDS,
                "retry": self.retry(NoBackoff(), 0),
                "retry_on_timeout": False,
                "health_check_interval": 0,
                "decode_responses": False,
                "protocol": 2,
                "client_name": "insend-relay-producer",
            }
            self.connection()
        except (TypeError, ValueError, redis.RedisError):
            raise no_address() from None

    def __str__(self) -> str:
        if "path" in self._options:
            return str(self._options["path"])
        return f"{self._options.get('host', 'localhost')}:{self._options.get('port', 6379)}"

    def connection(self) -> Any:
        """A connection that is still to be opened, and that repeats nothing by itself."""
        return self._kind(**self._options)
