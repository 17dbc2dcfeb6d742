"""Whether the workers of this machine make progress: what ``insend health`` asks, and what a worker answers.

Each worker answers on a Unix socket of the abstract namespace. Such a socket needs no file, so it works on a read-only
file system. It needs no port, so several workers of a machine do not collide. It is gone when its process is gone,
however that ended. A thread of the main process answers, so a process that hangs as a whole does not. The name holds
the outbox's namespace and the process namespace: containers that share a network do not see the workers of another.

Only this machine is judged. A Redis that is away, an app that is paused and a tracker that is down are no reason to
restart a worker: a restart would not help, and all of them would restart at once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from insend_relay.outbox.process import renew_in_children

logger = logging.getLogger(__name__)

WORKERS = 64  # of one namespace on one machine; more are not found
STUCK_SECONDS = 120.0  # no step of a pump or of a delivery takes so long: their waits for Redis and broker end before
ANSWER_SECONDS = 5.0  # how long a worker's answer is waited for
_CHUNK = 65_536
_BACKLOG = 128  # probes that wait for their answer at the same time
_AGAIN_SECONDS = 0.02  # between two attempts to get a place among them


@dataclass(frozen=True, slots=True)
class Health:
    """What a worker says of itself.

    Attributes:
        pid: Its main process; 0 when it did not answer.
        answers: Whether it answered in time.
        stopping: Whether it was told to stop; then it ends by itself and nothing is stuck.
        pump_seconds: How long ago its pump made its last step.
        delivery_seconds: The same for each of its processes that is delivering, by process id.
    """

    pid: int = 0
    answers: bool = True
    stopping: bool = False
    pump_seconds: float = 0.0
    delivery_seconds: dict[int, float] = field(default_factory=dict)

    @property
    def stuck_processes(self) -> list[int]:
        """The processes whose delivery makes no progress."""
        return [] if self.stopping else [pid for pid, ago in self.delivery_seconds.items() if ago > STUCK_SECONDS]

    @property
    def pump_stuck(self) -> bool:
        """Whether the pump makes no progress."""
        return not self.stopping and self.pump_seconds > STUCK_SECONDS

    @property
    def good(self) -> bool:
        """Whether everything makes progress."""
        return self.answers and not self.pump_stuck and not self.stuck_processes


class Door(threading.Thread):
    """Answers ``insend health`` for as long as the process lives.

    Args:
        namespace: The outbox's.
        health: Says how the worker is.
    """

    def __init__(self, namespace: str, health: Callable[[], Health]) -> None:
        super().__init__(name="insend-health", daemon=True)
        self._namespace = namespace
        self._health = health
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def open(self) -> None:
        """Take a name and begin to answer; where that cannot be, the log says so and the worker works without."""
        if sys.platform != "linux":
            return
        for number in range(WORKERS):
            with contextlib.suppress(OSError):  # another worker has this one
                self._socket.bind(_address(self._namespace, number))
                break
        else:
            logger.warning("insend health cannot see this worker: %d others run here, or no socket is allowed", WORKERS)
            return
        self._socket.listen(_BACKLOG)
        renew_in_children(self._socket.close)  # a pool process must not keep it open after our end
        self.start()

    def run(self) -> None:
        """The thread's life."""
        while True:
            try:
                asking, _ = self._socket.accept()
                with asking:
                    asking.settimeout(ANSWER_SECONDS)
                    asking.sendall(json.dumps(asdict(self._health())).encode())
            except OSError:  # the one who asks has gone, or no file descriptor is free
                time.sleep(0.1)


def ask_all(namespace: str) -> Iterator[Health]:
    """The workers of this machine, each with its answer or without one."""
    for number in range(WORKERS):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.settimeout(ANSWER_SECONDS)
            try:
                _connect(asking, _address(namespace, number))
                yield _read(asking)
            except ConnectionRefusedError:  # no worker has this name
                continue
            except (OSError, ValueError):
                yield Health(answers=False)


def _connect(asking: socket.socket, address: bytes) -> None:
    """Connect; while the backlog is full Linux answers EAGAIN at once, so wait for a place as long as for an answer."""
    until = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            return asking.connect(address)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(_AGAIN_SECONDS)


def _read(asking: socket.socket) -> Health:
    said = b""
    while chunk := asking.recv(_CHUNK):
        said += chunk
    answer = json.loads(said)
    deliveries = {int(pid): float(ago) for pid, ago in answer.pop("delivery_seconds").items()}
    return Health(**answer, delivery_seconds=deliveries)


def _address(namespace: str, number: int) -> bytes:
    """The socket's name; the zero byte makes it abstract. At most 107 bytes are allowed."""
    try:
        processes = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:  # a sandbox that has none
        processes = 0
    return f"\0insend-relay/{namespace}/{processes}/{number}".encode()
