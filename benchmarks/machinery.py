"""What all parts of the benchmark use: the tracker's stub, groups of processes, their CPU and memory, the machine."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from insend_relay.console.sandbox.embedded import EmbeddedRedis

HERE = Path(__file__).resolve().parent
SERVER = "BENCH_SERVER"
END_SECONDS = 30.0
LOOK_SECONDS = 0.02  # between two looks at something that is waited for
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_SAID = 4_000  # characters of what a process has said that are worth showing


class Group:
    """A command and all the processes that it starts, in a session of their own; a context manager.

    Args:
        command: What to start.
        environ: Its environment.
    """

    def __init__(self, command: Sequence[str], environ: dict[str, str]) -> None:
        self._command, self._environ = list(command), environ

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self._command,
            env=self._environ,
            cwd=HERE / "peers",
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()

    def must_live(self) -> None:
        """SystemExit with what it has said when it has ended by itself."""
        if self._process.poll() is not None:
            self._log.seek(0)
            said = self._log.read().decode(errors="replace")[-_SAID:]
            raise SystemExit(f"{' '.join(self._command)} has ended:\n{said}")

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """None of its processes runs meanwhile."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    @property
    def pids(self) -> list[int]:
        """All of its processes."""
        return [pid for pid in _all_pids() if _session(pid) == self._process.pid]

    @property
    def rss_megabytes(self) -> float:
        """What all of them hold in memory, shared pages counted for each."""
        pages = 0
        for pid in self.pids:
            with contextlib.suppress(OSError):
                pages += int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * _PAGE_BYTES / 1e6

    @property
    def pss_megabytes(self) -> float:
        """The same with shared pages shared out: what they really take."""
        kilobytes = 0
        for pid in self.pids:
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
                kilobytes += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return kilobytes * 1024 / 1e6


def cpu_seconds(*pids: int) -> float:
    """The CPU time that processes have used, user and system."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


def busy_seconds() -> float:
    """The CPU time that the whole machine has spent, and that its host has taken away (steal)."""
    user, nice, system, _, _, irq, softirq, steal, *_ = Path("/proc/stat").read_text(encoding="ascii").split()[1:]
    return sum(map(int, (user, nice, system, irq, softirq, steal))) / _TICKS


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _session(pid: int) -> int:
    with contextlib.suppress(OSError):
        return os.getsid(pid)
    return 0


class Stub:
    """The tracker's stub in a process of its own; a context manager."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "stub.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.url = self._line().strip()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def answer_after(self, seconds: float) -> None:
        """From now on answer so late, and count from 0."""
        self._ask(f"delay {seconds}")

    @property
    def count(self) -> int:
        """How many requests came since."""
        return int(self._ask("count"))

    @property
    def times(self) -> list[float]:
        """When each came, monotonic seconds."""
        return list(self._ask("times"))

    def _ask(self, line: str) -> Any:
        if self._process.stdin is None:
            raise RuntimeError("started without a pipe")
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return json.loads(self._line())

    def _line(self) -> str:
        if self._process.stdout is None:
            raise RuntimeError("started without a pipe")
        return self._process.stdout.readline()


@contextlib.contextmanager
def fresh_redis(fsync: str = "everysec") -> Iterator[EmbeddedRedis]:
    """An empty Redis, the same kind for all: the wheel's Valkey, or BENCH_SERVER; its files go away with it."""
    program = os.environ.get(SERVER)
    config = {"appendfsync": fsync, "auto-aof-rewrite-percentage": "0"}
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        EmbeddedRedis(Path(folder), server=Path(program) if program else "valkey", config=config) as redis,
    ):
        yield redis


def percentile(figures: Sequence[float], hundredths: int) -> float:
    """The figure that so many hundredths are not above."""
    ordered = sorted(figures)
    return ordered[min(len(ordered) - 1, len(ordered) * hundredths // 100)]


def wait_for(what: str, so: Callable[[], bool], seconds: float, look_seconds: float = LOOK_SECONDS) -> None:
    """Look until it is so; SystemExit when that takes too long."""
    give_up = time.monotonic() + seconds
    while not so():
        if time.monotonic() > give_up:
            raise SystemExit(f"{what}: not within {seconds:.0f} s")
        time.sleep(look_seconds)


def machine() -> dict[str, Any]:
    """What the figures were measured on; nothing in it names the machine."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    kilobytes = int(Path("/proc/meminfo").read_text(encoding="ascii").split()[1])
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": models[0] if models else platform.machine(),
        "memory_gigabytes": round(kilobytes / 1e6, 1),
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "python": platform.python_version(),
    }
