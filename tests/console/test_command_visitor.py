from __future__ import annotations

import pytest
from attempts import pause, retry
from command_line import ALICE, BOB, CommandLine, alive, claim, event, letter, put
from lanes import make_newer
from waiting import wait_until

from insend_relay.operations.dead import DeadLetters
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.store import Outbox
from insend_relay.outbox.trying import Tried

ELSEWHERE = Lane("elsewhere", "v", "alice")


def fail(outbox: Outbox, outcome: str) -> None:
    """Alice's first event has been tried once."""
    held = claim(outbox, ALICE)
    retry(outbox, held, Tried(held.id, attempts=1, outcome=outcome), delay_ms=60_000)


def test_it_says_what_waits_and_why_the_first_is_held(insend: CommandLine, outbox: Outbox) -> None:
    first = put(outbox)
    put(outbox)
    fail(outbox, "answered 500: later")
    shown = insend("visitor", "alice").stdout
    assert "shop/v/alice: 2 events waiting" in shown
    assert f"purchase {first}" in shown
    assert "answered 500: later" in shown
    assert "No dead letters." in shown


def test_dead_letters_of_the_visitor_are_listed(
    insend: CommandLine, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("insend_relay.console.commands.visitor._LETTERS_ON_SCREEN", 1)
    dead = [letter(outbox, ALICE), letter(outbox, ALICE)]
    letter(outbox, BOB)
    shown = insend("visitor", "alice").stdout
    assert "Nothing waits for alice." in shown
    assert "2 dead letters:" in shown
    assert str(dead[0]) in shown
    assert "... and 1 more" in shown


def test_a_program_gets_the_same(insend: CommandLine, outbox: Outbox) -> None:
    dead = letter(outbox)
    first = put(outbox)
    found = insend.json("visitor", "alice")
    assert [lane["lane"] for lane in found["lanes"]] == ["shop/v/alice"]
    assert found["lanes"][0]["head"]["id"] == str(first)
    assert [one["id"] for one in found["dead"]] == [str(dead)]


def test_what_the_tracker_echoed_is_masked_unless_asked_for(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox, ALICE, event(visitor_info={"first_name": "Zoë"}))
    fail(outbox, "answered 422: Zoë is no name")
    for command in (["visitor", "alice"], ["visitor", "alice", "--json"]):
        shown = insend(*command).stdout
        assert "is no name" in shown
        assert "Zo" not in shown
    assert "Zoë is no name" in insend("visitor", "alice", "--show-personal").stdout


def test_the_name_of_a_worker_is_not_taken_for_personal_data(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox)
    outbox.claim("celery@host:1234567", 1, lease_ms=60_000)
    assert "being sent by celery@host:1234567 now" in insend("visitor", "alice").stdout


def test_of_an_event_that_only_a_newer_worker_can_read_it_says_what_to_do(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox)
    version = make_newer(outbox)[0]
    alive(outbox)
    shown = insend("visitor", "alice").stdout
    assert (
        f"why:   a newer release wrote it (record version {version}), and no worker that is alive can read it" in shown
    )
    assert "fix:   Start a worker of that release." in shown
    (lane,) = insend.json("visitor", "alice")["lanes"]
    assert lane["unread_version"] == version
    assert "a newer release wrote it" in lane["head"]["why"]
    assert lane["head"]["fix"] == "Start a worker of that release."


def test_a_pause_is_why_everything_waits(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox)
    held = claim(outbox)
    pause(outbox, held, "answered 403: ask zoe@example.com")
    shown = insend("visitor", "alice").stdout
    assert "the app is paused since 2" in shown
    assert "answered 403: ask •••" in shown


def test_of_a_pause_that_does_not_end_by_itself_the_visitor_says_what_to_do(
    insend: CommandLine, outbox: Outbox
) -> None:
    put(outbox)
    held = claim(outbox)
    pause(outbox, held, "301: Location: https://new.example.net/", fault="redirect")
    shown = insend("visitor", "alice").stdout
    assert "(301: Location: https://new.example.net/)" in shown
    assert "  fix:   No redirect is followed: if the new address is the tracker's, set INSEND_TRACKER_URL" in shown
    assert insend.json("visitor", "alice")["lanes"][0]["head"]["fix"].startswith("No redirect is followed")


def test_of_a_pause_that_ends_by_itself_it_gives_no_fix(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox)
    outbox.read("HSET", outbox.keys.outage("shop"), "last_ok", 1)
    held = claim(outbox)
    pause(outbox, held, "503: try later")
    assert "fix:" not in insend("visitor", "alice").stdout
    assert insend.json("visitor", "alice")["lanes"][0]["head"]["fix"] is None


def test_where_no_event_was_ever_delivered_the_visitor_says_what_to_do(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox)
    held = claim(outbox)
    pause(outbox, held, "503: try later")
    assert (
        "  fix:   No event of this app was ever delivered: check INSEND_TRACKER_URL"
        in insend("visitor", "alice").stdout
    )


def test_that_no_worker_is_alive_is_said_where_an_event_waits_for_one(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox)
    assert "No worker is alive: `insend status` says more." in insend("visitor", "alice").stdout
    alive(outbox)
    assert "No worker" not in insend("visitor", "alice").stdout


def test_bury_head_makes_the_first_event_a_dead_letter(insend: CommandLine, outbox: Outbox) -> None:
    first, second = put(outbox), put(outbox)
    result = insend("visitor", "alice", "--bury-head", "--yes")
    assert result.exit_code == 0
    assert f"{first}: now a dead letter" in result.stdout
    assert [found.id for found in DeadLetters(outbox).scan()] == [first]
    assert insend.json("visitor", "alice")["lanes"][0]["head"]["id"] == str(second)


def test_discard_gives_the_first_event_up(insend: CommandLine, outbox: Outbox) -> None:
    first = put(outbox)
    assert f"{first}: discarded" in insend("visitor", "alice", "--discard", "--yes").stdout
    assert insend.json("status")["discarded"] == 1
    assert DeadLetters(outbox).count() == 0


def test_discard_all_gives_the_whole_lane_up(insend: CommandLine, outbox: Outbox) -> None:
    for _ in range(3):
        put(outbox)
    put(outbox, BOB)
    result = insend("visitor", "alice", "--discard", "--all", "--yes")
    assert result.exit_code == 0
    assert "3 events of shop/v/alice discarded" in result.stdout
    found = insend.json("status")
    assert (found["discarded"], found["waiting"], found["balanced"]) == (3, 1, True)


def test_discard_all_asks_with_the_count_and_keeps_what_came_in_since(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox)
    put(outbox)
    with insend.terminal("visitor", "alice", "--discard", "--all") as terminal:
        wait_until(lambda: "[y/N]" in terminal.shown)
        later = put(outbox)
        terminal.type("y\n")
        assert terminal.ended() == 0
    assert "Discard for good all 2 events that wait in shop/v/alice?" in terminal.shown
    assert insend.json("visitor", "alice")["lanes"][0]["head"]["id"] == str(later)
    assert insend.json("status")["discarded"] == 2


def test_discard_all_leaves_an_event_that_is_being_sent_and_says_so(
    insend: CommandLine, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("insend_relay.console.commands.visitor._WORKER_SECONDS", -30.0)
    put(outbox)
    put(outbox)
    outbox.claim("celery@host:7", 1, lease_ms=60_000)
    result = insend("visitor", "alice", "--discard", "--all", "--yes")
    assert result.exit_code == 1
    assert "1 event of shop/v/alice discarded" in result.stdout
    assert "celery@host:7 is still sending the first event" in result.stdout
    assert insend.json("status")["waiting"] == 1


def test_nobody_to_ask_means_nothing_is_changed(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox)
    assert insend("visitor", "alice", "--discard").exit_code == 2
    assert insend("visitor", "alice", "--discard", "--all").exit_code == 2
    assert insend.json("status")["waiting"] == 1


def test_a_head_that_went_while_the_operator_thought_is_not_replaced_by_the_next(
    insend: CommandLine, outbox: Outbox
) -> None:
    put(outbox)
    second = put(outbox)
    with insend.terminal("visitor", "alice", "--discard") as terminal:
        wait_until(lambda: "[y/N]" in terminal.shown)
        outbox.settle(claim(outbox), lease_ms=0)
        terminal.type("y\n")
        assert terminal.ended() == 2
    assert "gone meanwhile" in terminal.shown
    assert insend.json("visitor", "alice")["lanes"][0]["head"]["id"] == str(second)


def test_an_event_that_is_being_sent_is_left_alone(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox)
    claim(outbox)
    result = insend("visitor", "alice", "--bury-head", "--yes")
    assert result.exit_code == 2
    assert "is sending" in result.stderr
    assert DeadLetters(outbox).count() == 0


def test_of_several_lanes_one_must_be_named(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox, ALICE)
    put(outbox, ELSEWHERE)
    refused = insend("visitor", "alice", "--discard", "--yes")
    assert refused.exit_code == 2
    assert "elsewhere/v/alice" in refused.stderr
    assert insend("visitor", "elsewhere/v/alice", "--discard", "--yes").exit_code == 0
    assert [lane["lane"] for lane in insend.json("visitor", "alice")["lanes"]] == ["shop/v/alice"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["alice", "--discard", "--yes"],
        ["alice", "--discard", "--all", "--yes"],
        ["alice", "--all"],
        ["alice", "--bury-head", "--all"],
        ["shop/x/alice"],
        ["alice", "--discard", "--bury-head"],
    ],
)
def test_what_cannot_be_done_is_a_usage_error(insend: CommandLine, arguments: list[str]) -> None:
    assert insend("visitor", *arguments).exit_code == 2
