from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from command_line import ALICE, BOB, CommandLine, claim, event, letter, put
from lanes import tombstone
from waiting import wait_until

from insend_relay.outbox.entry import Entry
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.record import new_id
from insend_relay.outbox.store import Outbox
from insend_relay.spool.spool import Spool

GUEST = Lane("shop", "g", "guest-1")
ELSEWHERE = Lane("elsewhere", "v", "alice")


def login(outbox: Outbox, lane: Lane = ALICE) -> None:
    """The guest becomes a visitor."""
    outbox.append(lane, new_id(), event(), guest_uid=GUEST.uid)


def test_it_asks_with_the_counts_and_says_what_was_discarded_and_what_is_out_of_reach(
    insend: CommandLine, outbox: Outbox
) -> None:
    dead = letter(outbox)
    guest = put(outbox, GUEST, event("view_product"))
    login(outbox)
    put(outbox, ALICE, event(visitor_info={"email": "zoe@example.com"}))
    with insend.terminal("erase", "alice") as terminal:
        wait_until(lambda: "[y/N]" in terminal.shown)
        assert "Discard 4 events of alice in all apps for good?" in terminal.shown
        terminal.type("y\n")
        assert terminal.ended() == 0
    assert f"{dead}  purchase      dead" in terminal.shown
    assert f"{guest}  view_product  waiting" in terminal.shown
    assert "4 events discarded in Redis." in terminal.shown
    assert "backups" in terminal.shown
    assert "zoe@example.com" not in terminal.shown
    assert insend.json("status")["discarded"] == 4
    assert insend("audit").exit_code == 0


def test_whoever_says_no_has_changed_nothing(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox)
    with insend.terminal("erase", "alice") as terminal:
        wait_until(lambda: "[y/N]" in terminal.shown)
        terminal.type("n\n")
        assert terminal.ended() == 0
    assert insend.json("status")["waiting"] == 1
    assert not outbox.read("EXISTS", tombstone(outbox, "/v/alice"))


def test_a_program_gets_ids_and_types_and_nothing_personal(insend: CommandLine, outbox: Outbox) -> None:
    dead = letter(outbox)
    waits = put(outbox, ALICE, event(visitor_info={"email": "zoe@example.com"}))
    result = insend("erase", "alice", "--yes", "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["erased"] == [
        {"id": str(waits), "type": "purchase", "was": "waiting"},
        {"id": str(dead), "type": "purchase", "was": "dead"},
    ]
    assert found["counts"] == {"waiting": 1, "dead": 1, "spooled": 0}
    assert (found["complete"], found["spool"], found["possibly_sent"]) == (True, "none", [])
    assert "INSEND_SPOOL is not set here" in result.stderr
    assert "zoe" not in result.output


def test_to_run_it_again_finds_nothing_and_is_no_finding(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox)
    assert insend("erase", "alice", "--yes").exit_code == 0
    again = insend("erase", "alice", "--yes")
    assert again.exit_code == 0
    assert "Nothing of alice is here." in again.stdout
    assert "0 events discarded" in again.stdout


def test_where_nothing_is_found_the_question_says_what_a_yes_still_does(
    insend: CommandLine, outbox: Outbox, tmp_path: Path
) -> None:
    put(outbox, BOB)
    asked = insend("erase", "alice")
    assert asked.exit_code == 2
    assert "Nothing of alice is here." in asked.stdout
    assert "For 90 days, discard events of alice in all apps that were made before now and come in from" in asked.stderr
    assert "0 events" not in asked.output
    path = tmp_path / "spool.db"  # another machine's, and its event is from before the erasure
    spool = Spool(path, namespace=outbox.keys.namespace, most_bytes=10**8)
    spool.keep([(Entry(ALICE, new_id(), event()), "")], deadline=time.monotonic() + 60)
    assert insend("erase", "alice", "--yes").exit_code == 0
    assert insend("spool", "flush", INSEND_SPOOL=str(path)).exit_code == 0
    assert (insend.json("status")["waiting"], insend.json("status")["discarded"]) == (1, 1)


def test_the_uid_may_come_by_stdin(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox)
    assert insend("erase", "-", "--yes", stdin="alice\n").exit_code == 0
    assert insend.json("status")["waiting"] == 0


def test_at_a_terminal_the_uid_is_asked_for(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox)
    with insend.terminal("erase", "-") as terminal:
        wait_until(lambda: "UID:" in terminal.shown)
        terminal.type("alice\n")
        wait_until(lambda: "[y/N]" in terminal.shown)
        terminal.type("y\n")
        assert terminal.ended() == 0
    assert insend.json("status")["discarded"] == 1


def test_a_guest_who_logs_in_while_the_question_waits_is_asked_about_and_erased_too(
    insend: CommandLine, outbox: Outbox
) -> None:
    put(outbox)
    with insend.terminal("erase", "alice") as terminal:
        wait_until(lambda: "[y/N]" in terminal.shown)
        put(outbox, Lane("shop", "g", "guest-1"))
        outbox.append(ALICE, new_id(), event(), guest_uid="guest-1")
        terminal.type("y\n")
        wait_until(lambda: terminal.shown.count("[y/N]") == 2)
        assert "shop/g/guest-1" in terminal.shown
        terminal.type("y\n")
        assert terminal.ended() == 0
    assert insend.json("status")["discarded"] == 3


def test_letters_that_mention_the_uid_and_name_no_usable_visitor_are_left_to_the_operator(
    insend: CommandLine, outbox: Outbox
) -> None:
    def buried(payload: bytes) -> str:
        event_id = new_id()
        outbox.bury_invalid("shop", event_id, lane=None, type="custom", payload=payload, faults="x")
        return str(event_id)

    by_object = buried(b'{"visitor_uid":"User object (42)","visitor_info":{"email":"zoe@example.com"}}')
    by_list = buried(b'{"visitor_uid":["42"]}')
    buried(b'{"visitor_uid":"43","properties":{"price":42}}')
    buried(b'{"visitor_uid":42.0}')
    shown = json.loads(insend("erase", "42", "--yes", "--json").stdout)
    assert (shown["unclear"], shown["counts"]["dead"]) == ([by_object, by_list], 1)
    shown_again = insend("erase", "42", "--yes").stdout
    assert f"`insend dead discard --id ID`: {by_object}, {by_list}" in shown_again
    assert "zoe" not in shown_again
    assert json.loads(insend("erase", "42", "--app", "second", "--yes", "--json").stdout)["unclear"] == []


def test_several_apps_are_named_because_one_uid_may_be_two_persons(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox)
    put(outbox, Lane("second", "v", "alice"))
    assert "one uid may be two persons; --app APP means one of them: second, shop" in insend("erase", "alice").stdout
    shown = insend("erase", "alice", "--app", "shop", "--yes").stdout
    assert "two persons" not in shown
    assert insend.json("status")["waiting"] == 1


def test_the_spool_of_this_machine_is_erased_too(
    insend: CommandLine, outbox: Outbox, namespace: str, tmp_path: Path
) -> None:
    spool = Spool(tmp_path / "spool.db", namespace=namespace, most_bytes=10**8)
    entries = [Entry(lane, new_id(), event()) for lane in (ALICE, ALICE, BOB)]
    spool.keep([(entry, "") for entry in entries], deadline=time.monotonic() + 60)
    spool.close()
    shown = insend("erase", "alice", "--yes", INSEND_SPOOL=str(tmp_path / "spool.db")).stdout
    assert "2 events deleted from the spool: they had never come into Redis." in shown
    assert "0 events discarded in Redis." in shown
    assert all(b"alice" not in file.read_bytes() for file in tmp_path.iterdir())
    assert b"bob" in (tmp_path / "spool.db").read_bytes()
    assert outbox.read("EXISTS", tombstone(outbox, "/v/alice"))


def test_rows_that_cannot_be_read_are_counted_apart(insend: CommandLine, namespace: str, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", namespace=namespace, most_bytes=10**8)
    spool.keep([(Entry(ALICE, new_id(), event()), "")], deadline=time.monotonic() + 60)
    spool.put_aside(1, deadline=time.monotonic() + 60)
    spool.close()
    shown = insend("erase", "alice", "--yes", INSEND_SPOOL=str(tmp_path / "spool.db")).stdout
    assert "1 row of the spool cannot be read and is of this person: deleted too" in shown
    assert "1 unreadable row deleted from the spool." in shown
    assert all(b"alice" not in file.read_bytes() for file in tmp_path.iterdir())


def test_a_spool_that_another_process_moves_on_is_a_finding(
    insend: CommandLine, namespace: str, tmp_path: Path
) -> None:
    spool = Spool(tmp_path / "spool.db", namespace=namespace, most_bytes=10**8)
    spool.keep([(Entry(ALICE, new_id(), event()), "")], deadline=time.monotonic() + 60)
    with spool.flushing() as mine:
        assert mine
        result = insend("erase", "alice", "--yes", "--wait", "0", INSEND_SPOOL=str(tmp_path / "spool.db"))
    spool.close()
    assert result.exit_code == 1
    assert "is moving the spool on right now, so that its rows were left: run it again for alice." in result.stdout


def test_a_spool_that_was_never_used_is_not_made(insend: CommandLine, tmp_path: Path) -> None:
    assert insend("erase", "alice", "--yes", INSEND_SPOOL=str(tmp_path / "spool.db")).exit_code == 0
    assert list(tmp_path.iterdir()) == []


def test_a_spool_that_cannot_be_read_is_a_sentence_and_nothing_is_changed(
    insend: CommandLine, outbox: Outbox, tmp_path: Path
) -> None:
    put(outbox)
    (tmp_path / "spool.db").write_bytes(b"no database" * 1_000)
    result = insend("erase", "alice", "--yes", INSEND_SPOOL=str(tmp_path / "spool.db"))
    assert result.exit_code == 2
    assert "the spool cannot be opened" in result.stderr
    assert insend.json("status")["waiting"] == 1


def test_one_app_may_be_meant(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox, ALICE)
    put(outbox, ELSEWHERE)
    assert insend("erase", "alice", "--app", "shop", "--yes").exit_code == 0
    assert [lane["lane"] for lane in insend.json("visitor", "alice")["lanes"]] == ["elsewhere/v/alice"]


def test_an_event_that_is_still_being_sent_is_a_finding_and_the_next_run_ends_it(
    insend: CommandLine, outbox: Outbox
) -> None:
    sent = put(outbox)
    held = claim(outbox)
    result = insend("erase", "alice", "--wait", "0", "--yes")
    assert result.exit_code == 1
    assert f"The tracker may have received 1 event: {sent}" in result.stdout
    assert "The first event of shop/v/alice is still being sent by worker-1: run it again for alice." in result.stdout
    outbox.settle(held, lease_ms=0)
    assert insend("erase", "alice", "--wait", "0", "--yes").exit_code == 0
    assert insend("audit").exit_code == 0


def test_an_interrupted_run_says_what_it_did_and_how_to_go_on(insend: CommandLine, outbox: Outbox) -> None:
    sending, erased = put(outbox, GUEST), put(outbox, GUEST)
    login(outbox)
    put(outbox)
    claim(outbox, GUEST)
    with insend.terminal("erase", "alice", "--yes") as terminal:
        wait_until(lambda: outbox.read("LLEN", outbox.keys.lane(GUEST)) == 1)
        put(outbox, GUEST)  # when this one is gone, the command has noted the one before
        wait_until(lambda: outbox.read("LLEN", outbox.keys.lane(GUEST)) == 1)
        wait_until(lambda: "Erasing" in terminal.shown)
        terminal.interrupt()
        assert terminal.ended() == 130
    assert str(erased) in terminal.shown
    assert "discarded in Redis." in terminal.shown
    assert f"The tracker may have received 1 event: {sending}" in terminal.shown
    assert "The erasure is not complete. To go on, run it again for alice, guest-1." in terminal.shown
    assert insend("audit").exit_code == 0


def test_a_guest_whom_several_visitors_share_leads_to_none_of_them(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox, GUEST)
    login(outbox, ALICE)
    login(outbox, BOB)
    result = insend("erase", "guest-1", "--yes")
    assert result.exit_code == 1
    assert "run `insend erase` for each one that is meant: shop/v/alice, shop/v/bob" in result.stdout
    assert insend.json("status")["waiting"] == 2
    shared = insend("erase", "alice", "--yes")
    assert shared.exit_code == 0
    assert "They stay: shop/v/bob" in shared.stdout
    assert insend.json("status")["waiting"] == 1


def test_a_long_list_is_cut_on_the_screen_and_whole_for_a_program(
    insend: CommandLine, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("insend_relay.console.commands.erase_report._ON_SCREEN", 2)
    for _ in range(3):
        put(outbox)
        put(outbox, BOB)
    assert "... and 1 more: --json lists all of them" in insend("erase", "alice", "--yes").stdout
    assert len(json.loads(insend("erase", "bob", "--yes", "--json").stdout)["erased"]) == 3


def test_without_a_redis_it_says_so(insend: CommandLine) -> None:
    assert insend("erase", "alice", "--yes", INSEND_REDIS_URL="redis://127.0.0.1:1/0").exit_code == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ["alice"],
        ["-", "--yes"],
        ["shop/v/alice", "--yes"],
        ["", "--yes"],
        ["a b", "--yes"],
        ["a\x07", "--yes"],
        ["\udcff", "--yes"],
        ["alice", "--app", "a/b", "--yes"],
        ["alice", "--wait", "-1", "--yes"],
    ],
)
def test_what_cannot_be_done_is_a_usage_error(insend: CommandLine, outbox: Outbox, arguments: list[str]) -> None:
    put(outbox)
    assert insend("erase", *arguments).exit_code == 2
    assert insend.json("status")["waiting"] == 1
