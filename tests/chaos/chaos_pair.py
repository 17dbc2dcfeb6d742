"""A Redis with a replica, and a Sentinel that promotes it; for the chaos runs of ``chaos_failover``."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis
from chaos_processes import wait_for
from faketime import ClockedRedis

from insend_relay.console.sandbox.child import start_child
from insend_relay.console.sandbox.embedded import EmbeddedRedis, find_server, free_port
from insend_relay.outbox.connection import connect

NAME = "relay"  # by which the Sentinel knows the pair
_SENTINEL = """
port {port}
bind 127.0.0.1
dir {folder}
sentinel monitor {name} 127.0.0.1 {primary} 1
sentinel down-after-milliseconds {name} 700
sentinel failover-timeout {name} 3000
"""
_PATIENCE_SECONDS = 60.0


class Pair:
    """Two servers and a Sentinel; either may be the primary.

    Args:
        folder: For all files.
        config: Of both servers.
    """

    def __init__(self, folder: Path, config: dict[str, str]) -> None:
        self._folder = folder
        config = {"repl-diskless-sync-delay": "0", **config}
        self.servers = [ClockedRedis(folder / f"redis-{at}", server="redis", config=config) for at in range(2)]
        self._sentinel: subprocess.Popen[bytes] | None = None
        self._port = 0

    def start(self) -> None:
        """Start all, and wait until the replica follows."""
        first, second = (server.start() for server in self.servers)
        follow(second, first)
        self._port = free_port()
        conf = self._folder / "sentinel.conf"
        conf.write_text(_SENTINEL.format(port=self._port, folder=self._folder, name=NAME, primary=first.port))
        with (self._folder / "sentinel.log").open("ab") as log:
            self._sentinel = start_child([str(find_server("redis")), str(conf), "--sentinel"], log)
        self.wait(lambda: self._knows_replica() and self.replica_follows())

    def kill(self) -> None:
        """End all."""
        if self._sentinel is not None:
            self._sentinel.kill()
            self._sentinel.wait()
        for server in self.servers:
            server.kill()

    @property
    def primary(self) -> ClockedRedis:
        """Whom the Sentinel holds for the primary."""
        _, port = self._ask("get-master-addr-by-name", NAME)
        return next(server for server in self.servers if server.port == int(port))

    @property
    def other(self) -> ClockedRedis:
        """The one that is not."""
        primary = self.primary
        return next(server for server in self.servers if server is not primary)

    def replica_follows(self) -> bool:
        """Whether the primary has a replica that is in step."""
        with suppress(redis.RedisError):
            return b"state=online" in _told(self.primary, "INFO", "replication")
        return False

    def promote(self) -> None:
        """Have the Sentinel do a failover although nothing is wrong."""
        with suppress(redis.ResponseError):  # one is under way
            self._ask("FAILOVER", NAME)

    def wait(self, condition: Any) -> None:
        """Until something is so."""
        if not wait_for(condition, _PATIENCE_SECONDS):
            raise TimeoutError(f"the Sentinel did not get it right: see {self._folder}")

    def _knows_replica(self) -> bool:
        with suppress(redis.RedisError):
            return bool(self._ask("replicas", NAME))
        return False

    def _ask(self, *words: str) -> Any:
        with connect(f"redis://127.0.0.1:{self._port}") as client:
            client.response_callbacks.clear()
            return client.execute_command("SENTINEL", *words)


def follow(replica: EmbeddedRedis, primary: EmbeddedRedis) -> None:
    """Make one the other's replica."""
    _told(replica, "REPLICAOF", "127.0.0.1", primary.port)


def _told(server: EmbeddedRedis, *words: Any) -> Any:
    with connect(server.url, timeout_seconds=5) as client:
        client.response_callbacks.clear()
        return client.execute_command(*words)
