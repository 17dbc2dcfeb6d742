"""The spool keeps what it has said to keep, for one or for many processes, within its bounds."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import hookless
import pytest
from lanes import ALICE, BOB, GUEST
from waiting import PATIENCE_SECONDS

from insend_relay.outbox import record
from insend_relay.outbox.entry import Entry, InvalidEntry
from insend_relay.outbox.errors import SpoolBusy, SpoolError
from insend_relay.outbox.facts import Facts
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.settings import Settings
from insend_relay.spool import file as spool_file
from insend_relay.spool import handles as spool_handles
from insend_relay.spool.spool import Spool

MEGABYTE = 1_000_000
FACTS = Facts("event", 5, 11_000, order=b"12345678", trace=bytes(25))


def spool_at(path: Path, *, namespace: str = "insend", most_bytes: int = 100 * MEGABYTE) -> Spool:
    return Spool(path, namespace=namespace, most_bytes=most_bytes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "spool.db"


@pytest.fixture
def spool(path: Path) -> Spool:
    return spool_at(path)


def event(lane: Lane = ALICE, payload: bytes = b"{}") -> Entry:
    return Entry(lane, record.new_id(), payload, facts=FACTS)


def later() -> float:
    return time.monotonic() + PATIENCE_SECONDS


def keep(spool: Spool, *entries: Entry | InvalidEntry, slot: str = "") -> None:
    spool.keep([(entry, slot) for entry in entries], deadline=later())


def test_what_is_kept_comes_out_in_order_and_as_it_was(spool: Spool, path: Path) -> None:
    entries: list[Entry | InvalidEntry] = [
        Entry(ALICE, record.new_id(), '{"a":"я\x00"}'.encode(), GUEST.uid, "0f" * 16, 90, facts=FACTS),
        Entry(Lane("shop", "v", "Мария/" * 40), record.new_id(), b"{}", "a guest", facts=Facts()),
        event(GUEST),
        InvalidEntry("shop", record.new_id(), BOB, "purchase", b"{", "order_id: missing"),
        InvalidEntry("shop", record.new_id(), None, "?", b"{", "visitor_uid: missing"),
    ]
    keep(spool, *entries, slot="p:1")
    keep(spool, last := event(BOB))
    spool.close()
    kept = spool_at(path).first(100)
    assert [row.entry for row in kept] == [*entries, last]
    assert [str(row.entry.lane) for row in kept if row.entry] == [str(entry.lane) for entry in [*entries, last]]
    assert [row.way.slot for row in kept] == ["p:1"] * 5 + [""]
    assert [row.row for row in kept] == [1, 2, 3, 4, 5, 6]
    assert len({row.way.file for row in kept}) == 1
    assert [row.entry for row in spool.first(2)] == entries[:2]


def test_what_was_dropped_is_gone_and_its_rows_are_never_used_again(spool: Spool) -> None:
    keep(spool, event(), event(), event())
    spool.drop(2, deadline=later())
    assert [row.row for row in spool.first(9)] == [3]
    spool.drop(3, deadline=later())
    spool.close()
    keep(spool, event())
    assert [row.row for row in spool.first(9)] == [4]


def test_it_knows_whose_events_it_holds(spool: Spool) -> None:
    assert not spool.holds([str(ALICE)])
    keep(spool, event(ALICE))
    assert spool.holds([str(ALICE)])
    assert spool.holds([str(BOB), str(ALICE)])
    assert not spool.holds([str(BOB)])
    assert not spool.holds([])


def test_a_file_belongs_to_one_relay(spool: Spool, path: Path) -> None:
    keep(spool, event())
    with pytest.raises(SpoolError, match="is that of namespace insend"):
        keep(spool_at(path, namespace="other"), event())
    assert spool.look().events == 1


def test_another_process_learns_at_once_that_there_is_something(spool: Spool, path: Path) -> None:
    other = spool_at(path)
    assert not other.may_hold()
    keep(spool, event())
    assert other.may_hold()
    other.drop(1, deadline=later())
    assert spool.may_hold(), "only who has seen that nothing is left lowers the flag"
    other.lower(deadline=later())
    assert not spool.may_hold()


def test_the_flag_is_not_lowered_while_something_is_left(spool: Spool) -> None:
    keep(spool, event(), event())
    spool.drop(1, deadline=later())
    spool.lower(deadline=later())
    assert spool.may_hold()


@pytest.fixture
def elsewhere(path: Path) -> Callable[[str], str]:
    """Run some lines in a process of their own, with the spool; what they print."""

    def run(lines: str) -> str:
        command = [sys.executable, "-c", _BEGIN + lines, str(path)]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=PATIENCE_SECONDS
        ).stdout.strip()

    return run


def test_after_a_power_cut_the_flag_is_not_believed(spool: Spool, path: Path, elsewhere: Callable[[str], str]) -> None:
    keep(spool, event())
    flag = Path(f"{path}-flag")
    flag.write_bytes(b"\x00" + flag.read_bytes()[1:])
    assert elsewhere("print(spool.may_hold())") == "False", "in the same boot nobody else has written there"
    flag.write_bytes(b"\x00" + b"another boot".ljust(36))
    assert elsewhere("print(spool.may_hold())") == "True"


def test_any_number_of_spools_in_a_process_and_others_that_come_and_go_lose_nothing(
    path: Path, elsewhere: Callable[[str], str]
) -> None:
    one, two = spool_at(path), spool_at(path)
    keep(one, event(payload=b"1"))
    keep(two, event(payload=b"2"))
    assert elsewhere("print(spool.look().events); spool.close()") == "2"
    keep(one, event(payload=b"3"))
    three = spool_at(path)
    keep(three, event(payload=b"4"))
    assert elsewhere("print(spool.look().events); spool.close()") == "4"
    keep(two, event(payload=b"5"))
    assert elsewhere("print([row.entry.payload.decode() for row in spool.first(9)])") == "['1', '2', '3', '4', '5']"


def test_a_child_that_was_forked_with_the_file_open_loses_nothing_when_others_close_it(
    spool: Spool, elsewhere: Callable[[str], str]
) -> None:
    keep(spool, event(payload=b"1"))
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:  # pragma: no cover - coverage does not follow
        try:
            keep(spool, event(payload=b"2"))
            os.write(theirs, b"x")
            signal.pause()
        finally:
            os._exit(1)
    os.close(theirs)
    try:
        assert os.read(ours, 1) == b"x"
        assert elsewhere("print(spool.look().events); spool.close()") == "2"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ours)
    keep(spool, event(payload=b"3"))
    assert elsewhere("print([row.entry.payload.decode() for row in spool.first(9)])") == "['1', '2', '3']"


def test_a_fork_in_the_middle_of_writes_leaves_both_sides_able(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_handles, "FORK_SECONDS", PATIENCE_SECONDS)  # a slow disk must not decide
    monkeypatch.setattr(spool_file, "READ_SECONDS", PATIENCE_SECONDS)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            keep(spool, event())

    def in_child() -> None:
        keep(spool, event(BOB))
        assert spool.holds([str(BOB)])

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            assert hookless.ended(hookless.fork(in_child, hooks=True)) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    rows = spool.first(100_000)
    assert sum(row.entry is not None and row.entry.lane == BOB for row in rows) == 10


def test_the_first_use_of_a_file_waits_for_a_fork_that_goes_on(path: Path) -> None:
    spool_file.close_for_fork()  # what Python calls right before it forks
    try:
        with pytest.raises(SpoolBusy):
            spool_at(path).keep([(event(), "")], deadline=time.monotonic())
    finally:
        spool_handles.end_fork()
    keep(spool_at(path), event())


def test_a_file_that_was_deleted_is_made_anew_and_gives_no_receipt_for_the_old(spool: Spool, path: Path) -> None:
    keep(spool, event(ALICE))
    for file in path.parent.iterdir():
        file.unlink()
    keep(spool, event(BOB))
    assert path.exists()
    assert [row.entry and row.entry.lane for row in spool_at(path).first(9)] == [BOB]


def test_a_row_that_nobody_can_read_is_put_aside_and_kept(spool: Spool, path: Path) -> None:
    keep(spool, event(ALICE), event(BOB))
    with sqlite3.connect(path) as other:
        other.execute("UPDATE events SET lane = 'nonsense' WHERE row = 1")
    assert [row.entry is None for row in spool.first(9)] == [True, False]
    spool.put_aside(1, deadline=later())
    assert (spool.look().events, spool.look().unreadable) == (1, 1)


def test_its_files_are_for_their_owner_alone(spool: Spool, path: Path) -> None:
    before = os.umask(0)
    try:
        keep(spool, event())
        with spool.flushing():
            modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes.keys() >= {"spool.db", "spool.db-wal", "spool.db-flag", "spool.db-flush"}
    assert set(modes.values()) == {0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_it_is_bounded_and_takes_again_when_something_has_gone(path: Path) -> None:
    spool = spool_at(path, most_bytes=MEGABYTE)
    large = b"x" * 60_000

    def fill() -> None:
        for _ in range(100):
            keep(spool, event(payload=large))

    with pytest.raises(SpoolError, match="full"):
        fill()
    kept = spool.look().events
    assert 5 < kept < 20
    assert path.stat().st_size <= MEGABYTE
    spool.drop(kept, deadline=later())
    keep(spool, event(payload=large))


def test_a_disk_that_is_busy_is_waited_for_until_the_deadline(spool: Spool, path: Path) -> None:
    keep(spool, event())
    with sqlite3.connect(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SpoolError, match="locked"):
            spool.keep([(event(), "")], deadline=time.monotonic() + 1)
        other.rollback()
    keep(spool, event())
    assert spool.look().events == 2


@pytest.mark.parametrize("place", ["is a file/spool.db", "is a folder"])
def test_where_no_file_can_be_it_says_so(tmp_path: Path, place: str) -> None:
    (tmp_path / "is a file").touch()
    (tmp_path / "is a folder").mkdir()
    with pytest.raises(SpoolError, match="cannot be opened"):
        keep(spool_at(tmp_path / place), event())


def test_a_file_that_is_none_of_ours_is_left_as_it_is(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("dear diary " * 100)
    with pytest.raises(SpoolError, match="not a database"):
        keep(spool_at(path), event())
    assert path.read_text().startswith("dear diary")


def test_a_file_of_a_newer_release_is_left_to_it(spool: Spool, path: Path) -> None:
    keep(spool, event())
    spool.close()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 2")
    with pytest.raises(SpoolError, match="newer release"):
        keep(spool_at(path), event())


def test_only_one_at_a_time_moves_it_on(spool: Spool, path: Path) -> None:
    other = spool_at(path)
    spool.may_hold()
    with spool.flushing() as mine:
        assert mine
        with other.flushing() as also_mine:
            assert not also_mine
    with other.flushing() as mine:
        assert mine


def test_a_child_that_is_forked_meanwhile_does_not_keep_the_lock(spool: Spool, path: Path) -> None:
    spool.may_hold()
    with spool.flushing():
        child = os.fork()
        if not child:  # pragma: no cover - it only waits to be killed
            signal.pause()
            os._exit(0)
    try:
        with spool_at(path).flushing() as mine:
            assert mine
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _write_fifty(spool: Spool, number: int) -> None:
    for at in range(50):
        keep(spool, event(Lane("shop", "v", f"{number}"), b"%d" % at))


def test_many_processes_write_at_once_each_in_its_order(spool: Spool) -> None:
    keep(spool, event())
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_write_fifty, args=(spool, number)) for number in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 4
    rows = spool.first(1000)
    assert len(rows) == 201
    for number in range(4):
        mine = [row.entry.payload for row in rows if row.entry and row.entry.lane == Lane("shop", "v", f"{number}")]
        assert mine == [b"%d" % at for at in range(50)]


_BEGIN = """
import sys
from pathlib import Path
from insend_relay.spool.spool import Spool
spool = Spool(Path(sys.argv[1]), namespace="insend", most_bytes=10**8)
"""
_KEEPS_AND_TELLS = """
import sys
from pathlib import Path
from insend_relay.outbox.entry import Entry
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.record import new_id
from insend_relay.spool.spool import Spool
spool = Spool(Path(sys.argv[1]), namespace="insend", most_bytes=10**8)
while True:
    event = Entry(Lane("shop", "v", "1"), new_id(), b"{}")
    spool.keep([(event, "")], deadline=1e9)
    print(event.id.hex, flush=True)
"""


def test_what_it_said_to_keep_is_there_when_its_process_was_killed(path: Path) -> None:
    told: list[str] = []
    for _ in range(3):
        command = [sys.executable, "-c", _KEEPS_AND_TELLS, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            told += [process.stdout.readline().strip() for _ in range(20)]
            process.kill()
            told += process.stdout.read().split()
    kept = [row.entry.id.hex for row in spool_at(path).first(100_000) if row.entry]
    assert [one for one in kept if one in set(told)] == told
    assert len(kept) <= len(told) + 3


def test_a_forked_child_uses_the_file_anew(spool: Spool) -> None:
    keep(spool, event())
    child = os.fork()
    if not child:  # pragma: no cover - coverage does not follow
        try:
            keep(spool, event(BOB))
        finally:
            os._exit(0 if spool.holds([str(BOB)]) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [row.entry and row.entry.lane for row in spool.first(9)] == [ALICE, BOB]


def test_the_settings_name_it_or_there_is_none(path: Path) -> None:
    assert Spool.of(Settings()) is None
    spool = Spool.of(Settings(spool=str(path), namespace="n"))
    assert spool
    assert (spool.path, spool.namespace) == (path, "n")
