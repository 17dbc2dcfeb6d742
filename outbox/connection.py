"""The boundary to redis-py: clients without automatic retries, and its exceptions turned into ours.

redis-py retries by default, and has run a command twice that way. Ours never do: whether a command of unknown outcome
may be repeated is the caller's to decide, and the scripts make it harmless where it matters (fencing tokens and ids).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import redis
import redis.exceptions as theirs
from redis.backoff import NoBackoff
from redis.retry import Retry

from insend_relay.outbox.errors import ClusterMode, OutboxError, OutboxFull, OutboxRefused, OutboxUnreachable
from insend_relay.outbox.hello import CLUSTER, HELLO, Hello
from insend_relay.outbox.racing import racing
from insend_relay.outbox.redis_url import RedisUrl


class Executor(Protocol):
    """What the outbox needs of a client: ``redis.Redis`` has it, and so has the producers' link."""

    def execute_command(self, *args: Any) -> Any:
        """Run one command and return its reply; errors are redis-py's."""


class AsyncExecutor(Protocol):
    """The same for asyncio."""

    async def execute_command(self, *args: Any) -> Any:
        """Run one command and return its reply; errors are redis-py's."""


def connect(url: str, *, timeout_seconds: float = 5.0, connections: int = 256) -> redis.Redis:
    """A client for ``url`` that never retries by itself; SettingsError when the URL is wrong.

    Args:
        url: As ``RedisUrl.parse`` takes it.
        timeout_seconds: For connecting, and for each answer.
        connections: The most that it opens at once.
    """
    address = RedisUrl.parse(url)
    options: dict[str, Any] = {
        **address.connection_options(),
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
        "health_check_interval": 0,
        "client_name": "insend-relay",
    }
    if address.kind != "unix":
        options["socket_keepalive"] = True
    kind, racing_options = racing(address, options)
    pool = redis.ConnectionPool(connection_class=kind, max_connections=connections, **options, **racing_options)
    return _Client.from_pool(pool)


class _Client(redis.Redis):
    """Leaves a server that has become a replica: after a failover its name may lead to the new primary."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except theirs.ResponseError as error:
            self.leave_replica(error)
            raise

    def leave_replica(self, reply: object) -> None:
        """Drop the idle connections when a reply says that this is one."""
        if isinstance(reply, theirs.ResponseError) and "READONLY" in str(reply):
            self.connection_pool.disconnect(inuse_connections=False)


def check_server(redis: Executor) -> None:
    """Raise ClusterMode when this Redis runs in cluster mode; OutboxError when it cannot be asked. One round trip."""
    with errors_mapped():
        try:
            reply = redis.execute_command(*HELLO)
        except theirs.ResponseError:  # a proxy that does not know the command
            return
    Hello.read(reply).check()


def together(client: Executor, *commands: tuple[Any, ...]) -> list[Any]:
    """Run commands on one connection, in one round trip; in the place of a missing reply stands redis-py's error.

    Replies are as Redis gives them: not what redis-py makes of some.

    What had been answered before the connection broke stays answered: a LOADING in the middle of a packet says nothing
    of the commands before it, and of those behind it nobody knows.

    Args:
        client: One of ``connect``'s; any other executor runs them one by one.
        commands: Each with its arguments.
    """
    if not isinstance(client, _Client):
        return [_reply(client.execute_command, *command) for command in commands]
    # Not redis-py's own ways: they take 25 us more for each command, to look for what none of ours has.
    connection: Any = client.connection_pool.get_connection()
    replies: list[Any] = []
    try:
        connection.send_packed_command(connection.pack_commands(commands))
        for _ in commands:
            replies.append(_reply(connection.read_response))  # noqa: PERF401 - what has come stays, come what may
    except theirs.RedisError as error:
        connection.disconnect()
        replies.append(error)
        replies += [theirs.ConnectionError("broken off behind another command")] * (len(commands) - len(replies))
    except BaseException:
        connection.disconnect()
        raise
    finally:
        client.connection_pool.release(connection)
    for reply in replies:
        client.leave_replica(reply)
    return replies


def _reply(ask: Callable[..., Any], *command: Any) -> Any:
    try:
        return ask(*command)
    except theirs.ResponseError as error:
        return error


def run_together(client: Executor, *commands: tuple[Any, ...]) -> list[Any]:
    """The same with errors turned into ours; what breaks the connection is raised."""
    with errors_mapped():
        replies = together(client, *commands)
        for reply in replies:
            if isinstance(reply, theirs.RedisError) and not isinstance(reply, theirs.ResponseError):
                raise reply
        return replies


class _Mapping:
    """Not a generator's context manager: every command goes through it, and that takes 2 us."""

    def __enter__(self) -> None:
        """Nothing is to be prepared."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, theirs.RedisError):
            raise mapped(error) from error


_MAPPING = _Mapping()


def errors_mapped() -> AbstractContextManager[None]:
    """Turn redis-py's exceptions into ours."""
    return _MAPPING


_FULL = "Redis is full (maxmemory reached): raise maxmemory; the workers go on draining it"
REPLICA = "Redis is a read-only replica: point INSEND_REDIS_URL at the primary"
_DATABASE = "this Redis has no database of the number that INSEND_REDIS_URL ends with: correct it, as in .../0"
_RIGHTS = (
    "Redis refused the command: the ACL of our user has to allow the keys of INSEND_NAMESPACE and our commands "
    "(docs/deploy.md has the rights)"
)
_PASSWORD = "Redis refused our user or password: check INSEND_REDIS_URL"  # noqa: S105 - a sentence about one
_PLAIN: tuple[tuple[str, type[OutboxError], str], ...] = (
    # what arrives as a plain ResponseError, telling by its text alone; Redis 6.2 wraps what a script met so
    ("OOM command not allowed", OutboxFull, _FULL),
    ("READONLY You can't write", OutboxUnreachable, REPLICA),
    ("NOREPLICAS ", OutboxUnreachable, "Redis has too few replicas and takes nothing (its min-replicas-to-write)"),
    ("not allowed in cluster mode", ClusterMode, CLUSTER),  # SELECT
    ("DB index is out of range", OutboxRefused, _DATABASE),  # SELECT too
    ("ACL failure in script", OutboxRefused, _RIGHTS),
    ("MISCONF ", OutboxUnreachable, "Redis cannot write to its disk and takes nothing: see its log"),
    ("BUSY Redis is busy", OutboxUnreachable, "Redis is busy running somebody's script"),
)
_OURS: tuple[tuple[type[theirs.RedisError], type[OutboxError], str, bool], ...] = (
    # the first match counts: subclasses stand before their parents
    (theirs.OutOfMemoryError, OutboxFull, _FULL, False),
    (theirs.AuthenticationError, OutboxRefused, _PASSWORD, False),
    (theirs.AuthorizationError, OutboxRefused, _PASSWORD, False),
    (theirs.AuthenticationWrongNumberOfArgsError, OutboxRefused, _PASSWORD, False),
    # redis-py 6 has no such class
    (getattr(theirs, "ExternalAuthProviderError", theirs.AuthenticationError), OutboxRefused, _PASSWORD, False),
    (theirs.NoPermissionError, OutboxRefused, _RIGHTS, False),
    (theirs.BusyLoadingError, OutboxUnreachable, "Redis is still loading its data", False),
    (theirs.MasterDownError, OutboxUnreachable, "Redis is a replica without its primary", False),
    (theirs.ClusterError, ClusterMode, CLUSTER, False),  # CLUSTERDOWN
    (theirs.ClusterCrossSlotError, ClusterMode, CLUSTER, False),
    (theirs.AskError, ClusterMode, CLUSTER, False),  # and MOVED
    (theirs.TryAgainError, ClusterMode, CLUSTER, False),
    (theirs.ReadOnlyError, OutboxUnreachable, REPLICA, False),
    (theirs.MaxConnectionsError, OutboxUnreachable, "no connection to Redis is free", False),
    (theirs.TimeoutError, OutboxUnreachable, "Redis did not answer in time", True),
    (theirs.ConnectionError, OutboxUnreachable, "Redis cannot be reached", True),
    (theirs.InvalidResponse, OutboxUnreachable, "Redis answered with something else than its protocol", True),
    (theirs.RedisError, OutboxRefused, "Redis refused the command", False),
)


def mapped(error: theirs.RedisError) -> OutboxError:
    """The exception of ours that tells what a redis-py exception means to a caller."""
    for sign, plain_kind, plain_text in _PLAIN:
        if sign in str(error):
            return plain_kind(plain_text)
    kind, text, unknown = next(row[1:] for row in _OURS if isinstance(error, row[0]))
    if issubclass(kind, OutboxUnreachable):
        return kind(f"{text} ({error})", unknown=unknown)
    return kind(f"{text} ({error})")
