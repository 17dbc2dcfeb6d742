"""The processes of a chaos run: producers and workers, started again as by a supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

STOPPING = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}


class Processes:
    """Processes of one kind, each a group of its own, started again when they have ended."""

    def __init__(self, number: int, start: Callable[[int], subprocess.Popen[bytes]]) -> None:
        self._start = start
        self._told: set[int] = set()
        self.running = [start(at) for at in range(number)]

    def __getitem__(self, at: int) -> subprocess.Popen[bytes]:
        return self.running[at]

    def send(self, at: int, number: signal.Signals, *, group: bool = False) -> None:
        """Send one a signal, or its whole group."""
        pid = self.running[at].pid
        if number in STOPPING:
            self._told.add(pid)
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(pid, number)

    def stays(self, at: int) -> bool:
        """Whether one runs and was not told to stop."""
        return self.running[at].poll() is None and self.running[at].pid not in self._told

    def left(self, at: int, seconds: float) -> bool:
        """Whether one has ended by itself, after at most so long."""
        with suppress(subprocess.TimeoutExpired):
            self.running[at].wait(seconds)
        return self.running[at].poll() is not None

    def restart(self, at: int, how: signal.Signals, *, seconds: float = 15.0) -> None:
        """End one, and start it again."""
        self.send(at, how)
        self.left(at, seconds)
        self._again(at)

    def revive(self) -> None:
        """Start again what has ended, as a supervisor does."""
        for at, process in enumerate(self.running):
            if process.poll() is not None:
                self._again(at)

    def _again(self, at: int) -> None:
        self.send(at, signal.SIGKILL, group=True)  # a supervisor ends what a killed main process has left
        self.running[at].wait()
        self.running[at] = self._start(at)

    def end(self, how: signal.Signals) -> None:
        """End all."""
        for at in range(len(self.running)):
            self.send(at, how)
        for at, process in enumerate(self.running):
            self.left(at, 30)
            self.send(at, signal.SIGKILL, group=True)
            process.wait()


def children_of(pid: int) -> list[int]:
    """A process's own children."""
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def wait_for(so: Callable[[], object], seconds: float = 15.0) -> bool:
    """Whether something came about, after at most so long."""
    give_up = time.monotonic() + seconds
    while not so():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.02)
    return True
