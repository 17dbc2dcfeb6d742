"""The boundary to redis-py: no error of theirs goes through unmapped, and nothing is retried behind our back."""

from __future__ import annotations

import inspect
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import redis.exceptions as theirs
from lanes import ALICE

from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.outbox import record
from insend_relay.outbox.connection import connect, errors_mapped, mapped
from insend_relay.outbox.errors import (
    ClusterMode,
    OutboxError,
    OutboxFull,
    OutboxRefused,
    OutboxUnreachable,
    SettingsError,
)
from insend_relay.outbox.store import Outbox

# What each exception of redis-py means to us. A class that a new release of it brings must be put here by a person.
MEANING: dict[type[OutboxError], set[str]] = {
    OutboxFull: {"OutOfMemoryError"},
    OutboxUnreachable: {
        "BusyLoadingError",
        "ConnectionError",
        "InvalidResponse",
        "MasterDownError",
        "MaxConnectionsError",
        "ReadOnlyError",
        "TimeoutError",
    },
    ClusterMode: {
        "AskError",
        "ClusterCrossSlotError",
        "ClusterDownError",
        "ClusterError",
        "MovedError",
        "TryAgainError",
    },
    OutboxRefused: {
        "AuthenticationError",
        "AuthenticationWrongNumberOfArgsError",
        "AuthorizationError",
        "DataError",
        "ExecAbortError",
        "ExternalAuthProviderError",
        "LockError",
        "LockNotOwnedError",
        "ModuleError",
        "NoPermissionError",
        "NoScriptError",
        "NoSuchFieldsetError",
        "PubSubError",
        "RedisError",
        "ResponseError",
        "WatchError",
    },
}
SENT_PERHAPS = {"ConnectionError", "InvalidResponse", "TimeoutError"}
THEIRS = {
    name: kind for name, kind in inspect.getmembers(theirs, inspect.isclass) if issubclass(kind, theirs.RedisError)
}
CLUSTER_ONLY = {"AskError", "MovedError"}  # built from "SLOT HOST:PORT"


@pytest.mark.parametrize("name", THEIRS)
def test_every_exception_of_the_client_has_a_meaning(name: str) -> None:
    error = THEIRS[name]("1 127.0.0.1:7000" if name in CLUSTER_ONLY else "what it said")
    (meaning,) = [kind for kind, names in MEANING.items() if name in names]
    ours = mapped(error)
    assert type(ours) is meaning
    if isinstance(ours, OutboxUnreachable):
        assert ours.unknown == (name in SENT_PERHAPS)


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("Error running script (call to f_1): @user_script:1: -OOM command not allowed when used memory", OutboxFull),
        ("Error running script: -READONLY You can't write against a read only replica.", OutboxUnreachable),
        ("Error running script: -NOREPLICAS Not enough good replicas to write.", OutboxUnreachable),
        ("MISCONF Errors writing to the AOF file: No space left on device", OutboxUnreachable),
        ("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", OutboxUnreachable),
        ("SELECT is not allowed in cluster mode", ClusterMode),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", OutboxRefused),
    ],
)
def test_what_only_the_text_of_an_answer_tells_is_told_apart(said: str, meaning: type[OutboxError]) -> None:
    assert type(mapped(theirs.ResponseError(said))) is meaning


def test_an_error_of_ours_says_what_the_client_said_and_keeps_it_as_the_cause() -> None:
    with pytest.raises(OutboxRefused, match="WRONGTYPE") as raised, errors_mapped():
        raise theirs.ResponseError("WRONGTYPE here")
    assert isinstance(raised.value.__cause__, theirs.ResponseError)


def test_what_is_no_error_of_the_client_passes_unchanged() -> None:
    with pytest.raises(KeyError), errors_mapped():
        raise KeyError("ours to find")


@pytest.mark.parametrize("url", ["http://127.0.0.1", "nonsense", "redis://127.0.0.1:port", "redis://h/0?foo=bar"])
def test_an_address_that_is_none_is_a_setting_to_correct(url: str) -> None:
    with pytest.raises(SettingsError, match="INSEND_REDIS_URL"):
        connect(url)


def test_a_unix_socket_will_do(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with (
        EmbeddedRedis(tmp_path, server="redis", config={"unixsocket": path}),
        connect(f"unix://{path}") as client,
    ):
        assert Outbox(client).apps() == []


def test_a_redis_that_is_not_there_is_unreachable() -> None:
    with socket.socket() as taken:  # bound, not listening: nobody else gets the port, nobody answers on it
        taken.bind(("127.0.0.1", 0))
        with connect(f"redis://127.0.0.1:{taken.getsockname()[1]}/0") as client, pytest.raises(OutboxUnreachable):
            Outbox(client).apps()


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_an_answer_that_does_not_come_leaves_the_outcome_unknown(silent: socket.socket) -> None:
    port = silent.getsockname()[1]
    with connect(f"redis://127.0.0.1:{port}/0", timeout_seconds=0.5) as client:
        with pytest.raises(OutboxUnreachable) as raised:
            Outbox(client).apps()
        assert raised.value.unknown


def test_a_command_of_unknown_outcome_is_not_sent_again(silent: socket.socket) -> None:
    port = silent.getsockname()[1]
    with connect(f"redis://127.0.0.1:{port}/0", timeout_seconds=0.5) as client, pytest.raises(OutboxUnreachable):
        Outbox(client).apps()
    silent.setblocking(False)
    connections = []
    try:
        while True:
            connections.append(silent.accept()[0])
    except BlockingIOError:
        pass
    for connection in connections:
        connection.close()
    assert len(connections) == 1


@pytest.fixture
def own(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    """A server of the test's own kind, to be misconfigured."""
    with (
        EmbeddedRedis(tmp_path, server=request.param, config={"appendonly": "no"}) as server,
        connect(server.url) as client,
    ):
        yield client


either = pytest.mark.parametrize("own", ["redis", "valkey"], indirect=True)


@either
def test_a_replica_is_unreachable_even_from_inside_a_script(own: redis.Redis) -> None:
    own.replicaof("127.0.0.1", 1)
    with pytest.raises(OutboxUnreachable, match="read-only replica"):
        Outbox(own).append(ALICE, record.new_id(), b"{}")
    own.replicaof("NO", "ONE")


@either
def test_a_wrong_password_says_where_to_look(own: redis.Redis) -> None:
    own.config_set("requirepass", "another")
    port = own.connection_pool.connection_kwargs["port"]
    with (
        connect(f"redis://:wrong@127.0.0.1:{port}/0") as client,
        pytest.raises(OutboxRefused, match="check INSEND_REDIS_URL"),
    ):
        Outbox(client).apps()
