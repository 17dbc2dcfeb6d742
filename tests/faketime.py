"""A server whose clock can be set, for tests and for the chaos harness: libfaketime shifts what it reads as the time.

The server is that of a wheel, of Redis or Valkey: a Redis of Debian reads its clock in a way that the library does not
see. The monotonic clock stays the true one, and so does the clock of every other process.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools import missing

from insend_relay.console.sandbox.embedded import EmbeddedRedis, NoServer, Server, find_server
from insend_relay.outbox.connection import connect

HOUR = 3_600


class ClockedRedis(EmbeddedRedis):
    """A server of our own whose clock is ``ahead_seconds`` ahead of the machine's; use it as ``EmbeddedRedis``.

    Args:
        folder: Where its data, its log and its clock lie.
        server: Which kind.
        ahead_seconds: How far ahead it starts; negative is behind.
        more: As for ``EmbeddedRedis``.

    Raises:
        NoServer: There is no library or no server on this machine.
    """

    def __init__(self, folder: Path, *, server: Server = "valkey", ahead_seconds: float = 0, **more: Any) -> None:
        self._clock = folder / "clock"
        self._ahead_seconds = ahead_seconds
        super().__init__(folder, server=self._wrapped(find_server(server)), **more)

    @property
    def ahead_seconds(self) -> float:
        """How far its clock is ahead of the machine's."""
        return self._ahead_seconds

    def step(self, seconds: float) -> None:
        """Set its clock forward, or back by a negative number of seconds, at once."""
        self._ahead_seconds += seconds
        self._write_clock()

    def _write_clock(self) -> None:
        written = self._clock.with_suffix(".new")
        written.write_text(f"{self._ahead_seconds:+.3f}\n")
        written.replace(self._clock)  # the server reads it at any moment

    def _wrapped(self, server: Path) -> Path:
        """A program that becomes the server, with the library in front of its clock."""
        library = _library()
        self._clock.parent.mkdir(parents=True, exist_ok=True)
        self._write_clock()
        changed = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._clock),
            "FAKETIME_NO_CACHE": "1",  # a step is seen by the next command
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        program = self._clock.parent / "server"
        words = ["env", *(f"{name}={value}" for name, value in changed.items()), str(server)]
        program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        program.chmod(0o700)
        return program


@contextmanager
def clocked_redis(folder: Path, **more: Any) -> Iterator[ClockedRedis]:
    """A running ``ClockedRedis`` for a test; where there can be none, skips the test, or fails it in CI."""
    try:
        server = ClockedRedis(folder, **more)
    except NoServer as error:
        missing(str(error))
    with server:
        with connect(server.url) as client:
            before = client.time()[0]
            server.step(-HOUR)
            stepped = before - client.time()[0]
            server.step(HOUR)
        if stepped < HOUR / 2:
            missing("libfaketime does not shift the clock of the server on this machine")
        yield server


def _library() -> Path:
    spec = importlib.util.find_spec("libfaketime")
    found = Path(spec.origin).parent / "vendor/libfaketime/src/libfaketime.so.1" if spec and spec.origin else None
    if found is None or not found.exists() or os.name != "posix":
        raise NoServer("no libfaketime on this machine, so no clock is stepped: pip install libfaketime")
    return found
