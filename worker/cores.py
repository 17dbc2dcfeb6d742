"""How many cores this process may use, and how many pool processes that makes.

A container or a systemd unit is limited by its CPU affinity (a cpuset) or by a CPU quota of its cgroup (``docker run
--cpus``, ``limits.cpu`` of Kubernetes, ``CPUQuota=``). ``os.cpu_count()`` sees neither: it counts the whole machine.

Sources: proc(5), "mountinfo" and "cgroup"; the kernel's cgroup-v2.rst (``cpu.max``) and sched-bwc.rst
(``cpu.cfs_quota_us``).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

MAX_PROCESSES = 8  # by default: each takes some 30 to 60 MB, and one alone delivers thousands of events a second


class _Mount(NamedTuple):
    """Where a cgroup hierarchy is mounted.

    Attributes:
        v2: Whether it is of version 2.
        root: The cgroup that is mounted; a container often has only its own.
        at: The folder.
    """

    v2: bool
    root: str
    at: Path


def default_processes(root: Path = Path("/")) -> int:
    """Pool processes for INSEND_PROCESSES=0: one for each usable core, at most ``MAX_PROCESSES``."""
    return min(usable_cores(root), MAX_PROCESSES)


def usable_cores(root: Path = Path("/")) -> int:
    """The cores of this process's affinity, or fewer if a CPU quota is smaller (1.5 is 2); at least 1.

    Args:
        root: The folder below which /proc and /sys are.
    """
    quota = min(_quotas(root), default=math.inf)
    cores = _affinity()
    return cores if quota >= cores else max(1, math.ceil(quota))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float]:
    """The CPU quotas, in cores, of this process's cgroups and all above them: the smallest one counts."""
    paths = dict(_own_cgroups(root))
    for mount in _mounts(root):
        path = paths.get(mount.v2)
        if path is None:
            continue
        folder = mount.at / _below(path, mount.root)
        while folder.is_relative_to(mount.at):
            quota = _quota_v2(folder) if mount.v2 else _quota_v1(folder)
            if quota:
                yield quota
            folder = folder.parent


def _own_cgroups(root: Path) -> Iterator[tuple[bool, str]]:
    """Whether of version 2, and the path in that hierarchy: of 0::/a, or of 4:cpu,cpuacct:/a."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            yield True, path
        elif "cpu" in controllers.split(","):
            yield False, path


def _mounts(root: Path) -> Iterator[_Mount]:
    """The mounted hierarchies that may have CPU quotas."""
    for line in _read(root / "proc/self/mountinfo").splitlines():
        mount, _, system = line.partition(" - ")
        # Not split(): the source may be empty.
        (_, _, _, subtree, point), (kind, _, options) = mount.split(" ")[:5], system.split(" ")[:3]
        if kind == "cgroup2" or (kind == "cgroup" and "cpu" in options.split(",")):
            yield _Mount(kind == "cgroup2", subtree, root / point.lstrip("/"))


def _below(path: str, mounted: str) -> PurePosixPath:
    """A cgroup's path below the one that is mounted; empty when it is not below it, as seen from a namespace."""
    cgroup = PurePosixPath(path)
    if ".." in cgroup.parts or not cgroup.is_relative_to(mounted):
        return PurePosixPath()
    return cgroup.relative_to(mounted)


def _quota_v2(folder: Path) -> float | None:
    """Of ``cpu.max``: "150000 100000", or "max 100000" without a quota."""
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    return _cores(quota, period)


def _quota_v1(folder: Path) -> float | None:
    """Of ``cpu.cfs_quota_us``, which is -1 without a quota."""
    return _cores(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _cores(quota_us: str, period_us: str) -> float | None:
    try:
        quota, period = int(quota_us), int(period_us)
    except ValueError:  # there is no quota, or no such file
        return None
    return quota / period if quota > 0 and period > 0 else None


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape")  # names of mount points are bytes
    except OSError:  # no Linux, or /proc is hidden
        return ""
