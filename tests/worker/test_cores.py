"""How many pool processes a worker starts by default: as many as affinity, CPU quota and the cap allow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from insend_relay.outbox.settings import Settings
from insend_relay.worker import cores
from insend_relay.worker.app import worker_arguments

V2 = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct"
V1_OF_A_CONTAINER = "32 31 0:29 /docker/4f2 /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct"
V1_CPU = "sys/fs/cgroup/cpu,cpuacct"
OTHERS = "24 1 8:1 / / rw - ext4 /dev/sda1 rw\n33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"


@pytest.fixture(autouse=True)
def _sixty_four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)


def machine(root: Path, cgroup: str, mounts: str) -> None:
    """Make a folder with /proc as it is on a machine."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup + "\n")
    (root / "proc/self/mountinfo").write_text(f"{OTHERS}\n{mounts}\n")


def write(root: Path, folder: str, **files: str) -> None:
    """Put files into a cgroup's folder; ``__`` in a name is a dot."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / folder / name.replace("__", ".")).write_text(text + "\n")


@pytest.mark.parametrize(
    ("quota", "usable"), [("100000", 1), ("150000", 2), ("50000", 1), ("800000", 8), ("max", 64), ("9999900000", 64)]
)
def test_a_quota_of_cgroup_v2_is_obeyed(tmp_path: Path, quota: str, usable: int) -> None:
    machine(tmp_path, "0::/", V2)
    write(tmp_path, "sys/fs/cgroup", cpu__max=f"{quota} 100000")
    assert cores.usable_cores(tmp_path) == usable


@pytest.mark.parametrize(("quota", "usable"), [("200000", 2), ("-1", 64), ("25000", 1)])
def test_a_quota_of_cgroup_v1_is_obeyed(tmp_path: Path, quota: str, usable: int) -> None:
    machine(tmp_path, "4:memory:/docker/4f2\n3:cpu,cpuacct:/docker/4f2\n0::/", V1_OF_A_CONTAINER)
    write(tmp_path, V1_CPU, cpu__cfs_quota_us=quota, cpu__cfs_period_us="100000")
    assert cores.usable_cores(tmp_path) == usable


def test_the_smallest_quota_on_the_way_up_counts(tmp_path: Path) -> None:
    machine(tmp_path, "0::/kubepods/pod7/main", V2)
    write(tmp_path, "sys/fs/cgroup/kubepods/pod7/main", cpu__max="max 100000")
    write(tmp_path, "sys/fs/cgroup/kubepods/pod7", cpu__max="300000 100000")
    write(tmp_path, "sys/fs/cgroup/kubepods", cpu__max="1600000 100000")
    assert cores.usable_cores(tmp_path) == 3


def test_a_neighbour_s_quota_does_not_count(tmp_path: Path) -> None:
    machine(tmp_path, "0::/system.slice/insend-worker@1.service", V2)
    write(tmp_path, "sys/fs/cgroup/system.slice/insend-worker@1.service", cpu__max="400000 100000")
    write(tmp_path, "sys/fs/cgroup/system.slice/nginx.service", cpu__max="100000 100000")
    assert cores.usable_cores(tmp_path) == 4


def test_a_machine_with_both_versions_obeys_the_one_that_has_the_quota(tmp_path: Path) -> None:
    unified = "38 31 0:35 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"
    machine(tmp_path, "3:cpu,cpuacct:/shop\n0::/shop", f"{V1}\n{unified}")
    write(tmp_path, f"{V1_CPU}/shop", cpu__cfs_quota_us="500000", cpu__cfs_period_us="100000")
    assert cores.usable_cores(tmp_path) == 5


@pytest.mark.parametrize("path", ["/../..", "/elsewhere", "/docker/4f2"])
def test_a_cgroup_that_cannot_be_found_below_its_mount_is_the_mount_s_own(tmp_path: Path, path: str) -> None:
    machine(tmp_path, f"3:cpu,cpuacct:{path}", V1_OF_A_CONTAINER)
    write(tmp_path, V1_CPU, cpu__cfs_quota_us="200000", cpu__cfs_period_us="100000")
    assert cores.usable_cores(tmp_path) == 2


def test_a_mount_without_a_source_and_one_whose_name_is_no_text_are_passed_over(tmp_path: Path) -> None:
    machine(tmp_path, "0::/", V2)
    write(tmp_path, "sys/fs/cgroup", cpu__max="300000 100000")
    with (tmp_path / "proc/self/mountinfo").open("ab") as mounts:
        mounts.write(b"41 24 0:40 / /mnt/a rw - tmpfs  rw,size=4k\n42 24 0:41 / /mnt/\xe9 rw - tmpfs none rw\n")
    assert cores.usable_cores(tmp_path) == 3


def test_without_proc_the_affinity_alone_counts(tmp_path: Path) -> None:
    assert cores.usable_cores(tmp_path) == 64


def test_many_cores_make_no_more_than_the_cap_and_few_make_as_many(tmp_path: Path) -> None:
    assert cores.default_processes(tmp_path) == cores.MAX_PROCESSES
    machine(tmp_path, "0::/", V2)
    write(tmp_path, "sys/fs/cgroup", cpu__max="300000 100000")
    assert cores.default_processes(tmp_path) == 3


def test_the_setting_s_text_names_the_cap() -> None:
    meaning = Settings.__dataclass_fields__["processes"].metadata["meaning"]
    assert meaning.endswith(f"at most {cores.MAX_PROCESSES}.")


def test_a_number_that_is_set_is_taken_as_it_is() -> None:
    assert "--concurrency=33" in worker_arguments(Settings(processes=33))


PINNED = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from insend_relay.outbox.settings import Settings
from insend_relay.worker.app import worker_arguments
print(worker_arguments(Settings()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has an affinity")
def test_a_worker_that_is_pinned_to_one_core_starts_one_process() -> None:
    pinned = subprocess.run([sys.executable, "-c", PINNED], capture_output=True, text=True, check=True)
    assert "--concurrency=1'" in pinned.stdout
