"""The host names of a chaos run, which no other resolver knows, and what may be wrong with them.

While a file ``resolver-hangs`` lies in the run's folder, looking up the tracker takes up to ten seconds and then fails,
or comes back all the same. While a file ``half-dead`` lies there each host has two addresses, and the first takes no
connection and refuses none: the file has its port.
"""

from __future__ import annotations

import _socket
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TRACKER, REDIS = "tracker.example.net", "redis.example.net"
HANGS = "resolver-hangs"
HALF_DEAD = "half-dead"
MOST_HANG_SECONDS = 10.0
HERE = "127.0.0.1"
sleep = time.sleep  # the real one: gevent will put its own in place


def use_resolver(folder: Path) -> None:
    """Look names up so in this process."""
    real = _socket.getaddrinfo
    vars(_socket)["getaddrinfo"] = _resolver(folder, real)


def _resolver(folder: Path, real: Callable[..., Any]) -> Callable[..., Any]:
    """As the system does it, but for these names."""

    def getaddrinfo(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in {TRACKER, REDIS}:
            return real(host, port, *rest, **more)
        if name == TRACKER:
            _hang(folder)
        found = real(HERE, port, *rest, **more)
        try:
            dead_port = int((folder / HALF_DEAD).read_text())
        except FileNotFoundError:
            return found
        return real(HERE, dead_port, *rest, **more) + found

    return getaddrinfo


def _hang(folder: Path) -> None:
    give_up = time.monotonic() + MOST_HANG_SECONDS
    hung = False
    while (folder / HANGS).exists() and time.monotonic() < give_up:
        hung = True
        sleep(0.02)
    if hung and os.urandom(1)[0] % 2:
        raise _socket.gaierror(_socket.EAI_AGAIN, "Temporary failure in name resolution")
