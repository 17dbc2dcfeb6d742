"""Celery's connections to its broker, opened as all others are: by a race when the host has several addresses.

kombu leaves the choice of the address to redis-py, which takes the first that accepts a connection: a frozen node, or a
replica that refuses every message. ``use_our_connections`` replaces kombu's transports ``redis`` and ``rediss`` in this
process. That is kombu's own way to plug in a transport, and the names in its messages stay the same.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis
from redis.exceptions import RedisError

from insend_relay.outbox.addresses import Addresses
from insend_relay.outbox.racing import Racing, RacingTls, racing_options

_OF_REDIS = (
    "host",
    "port",
    "db",
    "username",
    "password",
    "socket_timeout",
    "socket_connect_timeout",
    "socket_keepalive",
)


class _Tcp(Racing):
    """redis://"""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, **_racing(options, tls=False))


class _Tls(RacingTls):
    """rediss://"""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, **_racing(options, tls=True))


def _racing(options: dict[str, Any], *, tls: bool) -> dict[str, Any]:
    """What a race needs; its attempts get no options that connect kombu's pool to its connections."""
    of_redis = {name: value for name, value in options.items() if name in _OF_REDIS or name.startswith("ssl_")}
    return racing_options(of_redis, _addresses(of_redis["host"], of_redis["port"]), tls=tls)


@cache
def _addresses(host: str, port: int) -> Addresses:
    """One for all of kombu's connections: what worked for one is tried first by the next."""
    return Addresses(host, port)


class Channel(redis.Channel):
    """kombu's, with our connections, and one that closes also while Redis does not answer."""

    connection_class = _Tcp  # type: ignore[assignment]  # mypy sees no redis in kombu
    connection_class_ssl = _Tls  # type: ignore[assignment]  # see above

    def close(self) -> None:
        """Close it; a message that arrives within two seconds is still taken.

        kombu waits here for the answer to its BRPOP, which Redis gives after a second at the latest. There is none when
        the connection is dead, or when Redis's clock was set back after the BRPOP had come: it then ends an hour later.
        """
        connection: Any = self._in_poll  # while it waits for a message
        if connection and not _answers(connection, self.brpop_timeout + 1.0):
            connection.disconnect()
            self._in_poll = False
        super().close()  # type: ignore[no-untyped-call]  # kombu's


def _answers(connection: Any, seconds: float) -> bool:
    """Whether something arrives on a connection to Redis within this time."""
    try:
        return bool(connection.can_read(timeout=seconds))
    except (OSError, RedisError):
        return False


class Transport(redis.Transport):
    """kombu's, with our channels."""

    Channel = Channel


def use_our_connections() -> None:
    """Let Celery connect so; to be called before it does."""
    for name in ("redis", "rediss"):
        TRANSPORT_ALIASES[name] = f"{__name__}:Transport"
