from __future__ import annotations

from attempts import pause
from command_line import ALICE, CommandLine, claim, put
from waiting import wait_until

from insend_relay.console.terminal import moment
from insend_relay.operations.status import read_status
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.store import Outbox

ELSEWHERE = Lane("elsewhere", "v", "alice")


def paused(outbox: Outbox) -> list[str]:
    return sorted(pause.app for pause in read_status(outbox).paused)


def test_one_app_is_paused_and_resumed_without_a_question(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox, ALICE)
    put(outbox, ELSEWHERE)
    result = insend("pause", "shop")
    assert result.exit_code == 0
    assert "shop: paused" in result.stdout
    assert paused(outbox) == ["shop"]
    assert "shop: resumed" in insend("resume", "shop").stdout
    assert paused(outbox) == []


def test_an_app_that_was_not_paused_is_left_alone(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox, ALICE)
    put(outbox, ELSEWHERE)
    outbox.pause("elsewhere")
    result = insend("resume", "--yes")
    assert result.exit_code == 0
    assert result.stdout == "elsewhere: resumed: it goes on at once\nshop: was not paused\n"
    assert outbox.read("EXISTS", outbox.keys.outage("shop")) == 0


def test_an_app_that_was_paused_already_keeps_its_pause(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox, ALICE)
    insend("pause", "shop")
    (before,) = read_status(outbox).paused
    assert insend("pause", "shop").stdout == f"shop: was paused already, since {moment(before.since_ms)}\n"
    assert read_status(outbox).paused == [before]


def test_an_outage_is_no_pause_by_an_operator(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox, ALICE)
    pause(outbox, claim(outbox), "answered 503")
    assert "shop: paused: its events are kept" in insend("pause", "shop").stdout


def test_the_pause_of_an_outage_is_resumed_too(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox, ALICE)
    held = claim(outbox)
    pause(outbox, held, "answered 503")
    assert "shop: resumed" in insend("resume", "shop").stdout
    assert paused(outbox) == []


def test_all_apps_are_paused_only_with_consent(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox, ALICE)
    put(outbox, ELSEWHERE)
    refused = insend("pause")
    assert refused.exit_code == 2
    assert "elsewhere, shop" in refused.stderr
    assert paused(outbox) == []
    assert insend("pause", "--yes").exit_code == 0
    assert paused(outbox) == ["elsewhere", "shop"]


def test_a_person_who_says_no_has_paused_nothing(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox, ALICE)
    put(outbox, ELSEWHERE)
    with insend.terminal("pause") as terminal:
        wait_until(lambda: "[y/N]" in terminal.shown)
        terminal.type("n\n")
        assert terminal.ended() == 0
    assert paused(outbox) == []


def test_an_unknown_app_is_refused_with_the_known_ones(insend: CommandLine, outbox: Outbox) -> None:
    put(outbox, ALICE)
    result = insend("pause", "shpo")
    assert result.exit_code == 2
    assert "Known apps: shop" in result.stderr
    assert paused(outbox) == []


def test_without_any_app_there_is_nothing_to_do(insend: CommandLine) -> None:
    result = insend("pause")
    assert result.exit_code == 0
    assert "nothing to do" in result.stdout
