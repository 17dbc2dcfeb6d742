"""SQLite and a fork without hooks: nothing of it is open in uWSGI's master, and a child that inherits it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import types
from pathlib import Path

import hookless
import pytest
from lanes import ALICE
from waiting import PATIENCE_SECONDS

from insend_relay.outbox import record, uwsgi
from insend_relay.outbox.entry import Entry
from insend_relay.outbox.errors import SpoolError
from insend_relay.spool import handles as spool_handles
from insend_relay.spool.spool import Spool

OPENED_AND_CLOSED = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(connection.execute("SELECT count(*) FROM events").fetchone()[0])
connection.close()
"""
INTERRUPTED_AT_EVERY_LINE = """
import gc, os, sys, time
from insend_relay.outbox import record
from insend_relay.outbox.entry import Entry
from insend_relay.outbox.keys import Lane
from insend_relay.spool.spool import Spool

spool = Spool(sys.argv[1], namespace="insend", most_bytes=10**8)
lane = Lane.parse("1/v/alice")
line = last = 0


def keep():
    spool.keep([(Entry(lane, record.new_id(), b"{}"), "")], deadline=time.monotonic() + 60)


def trace(frame, event, _):
    global line
    if "/outbox/spool" not in frame.f_code.co_filename and "contextlib" not in frame.f_code.co_filename:
        return None
    if event == "line":
        line += 1
        if line == last:
            raise KeyboardInterrupt
    return trace


keep()
while line >= last:
    line, last = 0, last + 1
    sys.settrace(trace)
    try:
        spool.holds([str(lane)])
    except KeyboardInterrupt:
        pass
    sys.settrace(None)
assert last > 20, last
gc.collect()
handles = spool._file.handles.get()
print(len(handles._open) == len(handles._idle), len(handles._uses))
keep()
child = os.fork()
if not child:
    keep()
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""
OPENED_UNDER_AUDIT = """
import sys, time
from insend_relay.outbox import record
from insend_relay.outbox.entry import Entry
from insend_relay.outbox.keys import Lane
from insend_relay.spool.spool import Spool

spool = Spool(sys.argv[1], namespace="insend", most_bytes=10**8)
opened = []
sys.addaudithook(lambda event, words: opened.append(str(words[0])) if event == "open" else None)
spool.keep([(Entry(Lane.parse("1/v/alice"), record.new_id(), b"{}"), "")], deadline=time.monotonic() + 60)
print({path for path in opened if path.startswith(sys.argv[1])})
"""


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool.db", namespace="insend", most_bytes=10**8)


@pytest.fixture
def master(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """This process counts as uWSGI's master; a child says that it is a worker."""
    uwsgi = types.SimpleNamespace(worker=0, masterpid=os.getpid, has_threads=1)
    uwsgi.worker_id = lambda: uwsgi.worker
    monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
    return uwsgi


def keep(spool: Spool, number: int = 1) -> None:
    for _ in range(number):
        spool.keep([(Entry(ALICE, record.new_id(), b"{}"), "")], deadline=time.monotonic() + PATIENCE_SECONDS)


def output_of(program: str, spool: Spool) -> str:
    command = [sys.executable, "-c", program, str(spool.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def opened_and_closed(spool: Spool) -> int:
    """Another process opens the file and closes it; how many events it saw."""
    return int(output_of(OPENED_AND_CLOSED, spool))


def test_in_uwsgis_master_the_file_is_closed_after_each_use(spool: Spool, master: types.SimpleNamespace) -> None:
    assert master
    keep(spool, 2)
    assert spool.holds([str(ALICE)])
    assert {path for path in _open_files() if path.startswith(str(spool.path))} == {f"{spool.path}-flag"}


def test_a_worker_of_a_master_that_used_the_spool_holds_locks_of_its_own(
    spool: Spool, master: types.SimpleNamespace, tmp_path: Path
) -> None:
    keep(spool)
    ready, go_on = tmp_path / "ready", tmp_path / "go on"
    for pipe in (ready, go_on):
        os.mkfifo(pipe)

    def worker() -> None:
        master.worker = 1
        keep(spool)
        ready.write_text("x")
        go_on.read_text()
        keep(spool)

    child = hookless.fork(worker)
    ready.read_text()
    spool.close()  # what the master still had open would hold a lock for the worker, and hide that it has none
    assert opened_and_closed(spool) == 2
    assert Path(f"{spool.path}-wal").exists(), "the worker has the file open, so no other process deletes its log"
    go_on.write_text("x")
    assert hookless.ended(child) == 0
    assert opened_and_closed(spool) == 3


def test_a_child_that_was_forked_while_the_file_was_open_refuses_it_and_says_what_to_do(spool: Spool) -> None:
    keep(spool)

    def child() -> None:
        for use in (keep, lambda spool: spool.holds([str(ALICE)])):
            with pytest.raises(SpoolError, match="lazy-apps = true"):
                use(spool)
        assert hookless.ended(hookless.fork(grandchild)) == 0

    def grandchild() -> None:
        with pytest.raises(SpoolError, match="lazy-apps = true"):
            keep(spool)

    assert hookless.ended(hookless.fork(child)) == 0
    keep(spool)
    assert spool.look().events == 2


def test_a_child_that_was_forked_before_the_first_use_has_the_file(spool: Spool) -> None:
    assert hookless.ended(hookless.fork(lambda: keep(spool))) == 0
    keep(spool)
    assert spool.look().events == 2


def test_a_fork_waits_for_uses_and_one_that_lasts_too_long_makes_the_child_refuse(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_child() -> None:
        with pytest.raises(SpoolError, match="SQLite does not survive"):
            keep(spool)

    monkeypatch.setattr(spool_handles, "FORK_SECONDS", 0.01)
    keep(spool)
    with spool._file.transaction(time.monotonic() + PATIENCE_SECONDS):
        assert hookless.ended(hookless.fork(in_child, hooks=True)) == 0
    keep(spool)
    assert spool.look().events == 2


def test_a_flush_lock_that_a_child_has_a_copy_of_is_free_when_the_child_first_takes_one(spool: Spool) -> None:
    spool.may_hold()
    with spool.flushing() as mine:
        assert mine
        assert any(path.endswith("-flush") for path in _open_files())

        def child() -> None:
            with spool.flushing() as also_mine:
                assert not also_mine, "the parent has it"
            assert not any(path.endswith("-flush") for path in _open_files()), "and the copy is closed"

        assert hookless.ended(hookless.fork(child)) == 0
    with spool.flushing() as mine:
        assert mine


def test_more_uses_at_once_than_connections_wait_or_are_told_that_the_spool_is_busy(spool: Spool) -> None:
    keep(spool)
    file = spool._file
    deadline = time.monotonic() + PATIENCE_SECONDS
    uses = [file._connected(deadline) for _ in range(spool_handles.MAX_OPEN)]
    for use in uses:
        use.__enter__()
    with pytest.raises(SpoolError, match="busy too long"):
        spool.holds([str(ALICE)])
    uses.pop().__exit__(None, None, None)
    assert spool.holds([str(ALICE)])
    for use in uses:
        use.__exit__(None, None, None)


def test_readings_that_a_signal_handler_ends_by_an_exception_cost_no_connection_and_no_fork(spool: Spool) -> None:
    assert output_of(INTERRUPTED_AT_EVERY_LINE, spool) == "True 0\n0\n"


def test_the_file_is_made_by_sqlite_for_its_owner_alone(spool: Spool) -> None:
    before = os.umask(0)
    try:
        made = output_of(OPENED_UNDER_AUDIT, spool)
        keep(spool)
    finally:
        os.umask(before)
    assert made == str({f"{spool.path}-flag"}) + "\n", "closing a descriptor of the file drops the locks of the process"
    for end in ("", "-wal", "-shm", "-flag"):
        assert Path(f"{spool.path}{end}").stat().st_mode & 0o777 == 0o600


def test_uwsgis_mules_and_spoolers_fork_nothing(master: types.SimpleNamespace) -> None:
    assert uwsgi.forks_workers()
    master.mule_id = lambda: 1
    assert not uwsgi.forks_workers()
    master.mule_id = lambda: 0
    assert uwsgi.forks_workers()
    master.i_am_the_spooler = lambda: True
    assert not uwsgi.forks_workers()


def _open_files() -> list[str]:
    """The paths of this process's open files."""
    descriptors = list(Path("/proc/self/fd").iterdir())
    return [str(descriptor.readlink()) for descriptor in descriptors if os.path.lexists(descriptor)]
