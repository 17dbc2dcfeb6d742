from __future__ import annotations

import re
import signal

import pytest
from command_line import ALICE, BOB, CommandLine, a_worker, bury, event, letter, settle
from waiting import PATIENCE_SECONDS, wait_until

from insend_relay.operations.dead import DeadLetters
from insend_relay.operations.discard_lane import LaneDiscard, last_accepted
from insend_relay.operations.replay import Replay, overdue
from insend_relay.outbox.claim import Claim
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.quarantine import CRASHED
from insend_relay.outbox.store import Outbox


def refuse(outbox: Outbox, held: Claim) -> None:
    bury(outbox, held)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for what a worker that is not there would have to send."""
    monkeypatch.setattr("insend_relay.console.commands.replay._PATIENCE_SECONDS", 0)


def test_replay_shows_what_it_sends_and_sums_up_what_became_of_it(
    insend: CommandLine, outbox: Outbox, redis_url: str
) -> None:
    letter(outbox, ALICE)
    letter(outbox, BOB, type="custom")
    with a_worker(outbox, redis_url, settle):
        result = insend("replay", "--yes")
    assert result.exit_code == 0
    assert "2 dead letters match:" in result.stdout
    assert "2 letters of 2 sent again: 2 delivered, 0 came back, 0 under way" in result.stdout
    assert DeadLetters(outbox).count() == 0


def test_what_comes_back_is_a_finding(insend: CommandLine, outbox: Outbox, redis_url: str) -> None:
    letter(outbox)
    with a_worker(outbox, redis_url, refuse):
        result = insend("replay", "--yes")
    assert result.exit_code == 1
    assert "0 delivered, 1 came back" in result.stdout
    assert DeadLetters(outbox).count() == 1


def test_a_program_gets_one_json_value_on_stdout(insend: CommandLine, outbox: Outbox, redis_url: str) -> None:
    letter(outbox)
    with a_worker(outbox, redis_url, settle):
        found = insend.json("replay", "--yes")
    assert (found["total"], found["delivered"], found["finished"]) == (1, 1, True)


def test_in_the_background_it_is_left_to_the_workers(insend: CommandLine, outbox: Outbox, redis_url: str) -> None:
    letter(outbox)
    handed = insend("replay", "--background", "--yes")
    assert (handed.exit_code, DeadLetters(outbox).count()) == (0, 1)
    run_id, turn = overdue(outbox) or ("", 0)
    assert f"insend replay --run {run_id}" in handed.stdout
    with a_worker(outbox, redis_url, settle):
        assert "1 letter of 1 sent again: 1 delivered" in insend("replay", "--run", run_id).stdout
    assert Replay.resume(outbox, run_id).take_turn(turn) is None
    assert insend("replay", "--background", "--rate", "5").exit_code == 2


@pytest.mark.usefixtures("impatient")
def test_only_what_the_filters_mean_is_sent(insend: CommandLine, outbox: Outbox) -> None:
    letter(outbox, ALICE)
    kept = letter(outbox, BOB, type="custom")
    result = insend("replay", "--type", "purchase", "--yes")
    assert "1 letter of 1 sent again: 0 delivered, 0 came back, 1 under way" in result.stdout
    assert [found.id for found in DeadLetters(outbox).scan()] == [kept]


@pytest.mark.usefixtures("impatient")
def test_it_warns_of_old_carts_before_it_asks(insend: CommandLine, outbox: Outbox) -> None:
    letter(outbox, payload=event("update_cart"), type="update_cart")
    result = insend("replay")
    assert result.exit_code == 2
    assert "Beware: 1 update_cart" in result.stdout
    assert DeadLetters(outbox).count() == 1


@pytest.mark.parametrize(
    ("type", "lane", "warning"),
    [
        ("update_cart", ALICE, "1 update_cart: each carries a whole cart"),
        ("purchase", ALICE, "1 purchase: an order_update that was delivered"),
        ("link", Lane("shop", "g", "guest-1"), "1 of guests: when such a guest has logged in since"),
    ],
)
def test_it_says_what_a_late_event_may_break(
    insend: CommandLine, outbox: Outbox, type: str, lane: Lane, warning: str
) -> None:
    letter(outbox, lane, payload=event(type), type=type)
    assert f"Beware: {warning}" in insend("replay").stdout


def test_it_says_what_the_tracker_may_have_already_and_what_may_crash_workers_again(
    insend: CommandLine, outbox: Outbox
) -> None:
    letter(outbox, ALICE, payload=event("link"), type="link", reason="unknown: no whole answer")
    assert "may crash" not in (said := insend("replay").stdout)
    assert "Beware: 1 of unknown outcome: the tracker may have them already" in said
    letter(outbox, ALICE, payload=event("link"), type="link", reason=CRASHED)
    said = insend("replay").stdout
    assert "Beware: 2 of unknown outcome: the tracker may have them already" in said
    assert "Beware: 1 that died because they crashed their workers: they may do so again" in said


def test_a_status_change_without_its_purchase_is_named(insend: CommandLine, outbox: Outbox) -> None:
    letter(outbox, ALICE)
    letter(outbox, ALICE, payload=event("order_update"), type="order_update")
    assert "Beware: 1 order_update without the purchase before it" in insend("replay", "--type", "order_update").stdout


def test_what_was_discarded_on_its_way_is_named(insend: CommandLine, outbox: Outbox) -> None:
    letter(outbox)
    run = Replay.start(outbox)
    run.run(per_second=100)
    LaneDiscard(ALICE, last_accepted(outbox)).run(outbox, wait_seconds=0)
    result = insend("replay", "--run", run.id)
    assert (result.exit_code, "1 discarded while they waited in their lanes" in result.stdout) == (0, True)


def test_nothing_to_replay_is_no_failure(insend: CommandLine) -> None:
    result = insend("replay", "--yes")
    assert (result.exit_code, result.stdout) == (0, "There are no dead letters.\n")


def test_invalid_events_are_skipped_and_counted(insend: CommandLine, outbox: Outbox, redis_url: str) -> None:
    dead = letter(outbox)
    outbox.bury_invalid("shop", dead, lane=ALICE, type="purchase", payload=b"{}", faults="order_id: missing")
    letter(outbox, BOB)
    with a_worker(outbox, redis_url, settle):
        assert "skipped: they are invalid" in insend("replay", "--yes").stdout


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_or_sigterm_stops_it_and_the_named_run_goes_on(
    insend: CommandLine, outbox: Outbox, redis_url: str, how: signal.Signals
) -> None:
    visitors = [Lane("shop", "v", f"visitor-{number}") for number in range(5)]
    for visitor in visitors:
        letter(outbox, visitor)
    with insend.started("replay", "--yes", "--rate", "0.05") as process:
        wait_until(lambda: DeadLetters(outbox).count() == 4)
        process.send_signal(how)
        said, complaints = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130
    assert complaints == ""
    assert "4 still dead" in said
    found = re.search(r"insend replay --run (\w+)", said)
    assert found
    with a_worker(outbox, redis_url, settle):
        result = insend("replay", "--run", found[1], "--rate", "1000")
    assert "5 letters of 5 sent again: 5 delivered" in result.stdout
    assert result.exit_code == 0


def test_ctrl_c_while_waiting_for_the_last_ones_says_what_is_under_way(insend: CommandLine, outbox: Outbox) -> None:
    letter(outbox)
    with insend.started("replay", "--yes") as process:
        wait_until(lambda: DeadLetters(outbox).count() == 0)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130
    assert "1 under way" in said
    assert "still dead" not in said


def test_a_paused_app_is_named_while_replay_waits_for_it(insend: CommandLine, outbox: Outbox) -> None:
    for number in range(11):
        letter(outbox, Lane("shop", "v", f"visitor-{number}"))
    outbox.pause("shop")
    with insend.terminal("replay", "--yes", "--rate", "5") as terminal:
        wait_until(lambda: "waiting: shop paused" in terminal.shown)
        terminal.interrupt()
        assert terminal.ended() == 130
    assert DeadLetters(outbox).count() == 11


def test_a_run_that_is_not_there_and_filters_beside_a_run_are_usage_errors(insend: CommandLine) -> None:
    assert insend("replay", "--run", "none").exit_code == 2
    both = insend("replay", "--run", "none", "--type", "purchase")
    assert both.exit_code == 2
    assert "leave them out" in both.stderr
    for pace in ("0", "nan", "inf"):
        assert insend("replay", "--rate", pace).exit_code == 2
