"""``insend dead edit --payload``: the corrected event is checked, shown and sent."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from typing import Any

import pytest
from command_line import ALICE, BOB, CommandLine, a_worker, bury, claim, letter, settle
from corrected_letters import RIGHT, STORED, invalid, waiting

from insend_relay.operations.dead import DeadLetters
from insend_relay.outbox.record import new_id
from insend_relay.outbox.store import Outbox


@pytest.fixture
def dead(outbox: Outbox) -> uuid.UUID:
    """An invalid event among the dead letters."""
    return invalid(outbox)


def given(insend: CommandLine, id: uuid.UUID, payload: Any, *more: str) -> Any:
    """Edit with a payload on the command line, and agree."""
    return insend("dead", "edit", id, "--payload", json.dumps(payload), "--yes", *more)


def test_a_corrected_event_is_sent_again_under_its_id(insend: CommandLine, outbox: Outbox, dead: uuid.UUID) -> None:
    result = given(insend, dead, RIGHT)
    assert result.exit_code == 0
    assert 'properties.revenue: "12,50" -> 12.5' in result.stdout
    assert [sent["properties"] for sent in waiting(outbox)] == [{"order_id": "7", "revenue": 12.5}]
    assert DeadLetters(outbox).count() == 0
    assert insend.json("status")["discarded"] == 0


@pytest.mark.parametrize("source", ["file", "stdin"])
def test_the_payload_comes_from_a_file_or_from_stdin(
    insend: CommandLine, outbox: Outbox, dead: uuid.UUID, tmp_path: Path, source: str
) -> None:
    (tmp_path / "right.json").write_text(json.dumps(RIGHT))
    named = f"@{tmp_path}/right.json" if source == "file" else "-"
    result = insend("dead", "edit", dead, "--payload", named, "--yes", stdin=json.dumps(RIGHT))
    assert result.exit_code == 0
    assert len(waiting(outbox)) == 1


def test_the_replay_that_counts_it_is_named_and_can_be_looked_up(
    insend: CommandLine, outbox: Outbox, redis_url: str, dead: uuid.UUID
) -> None:
    (run,) = re.findall(r"insend replay --run (\w+)", given(insend, dead, RIGHT).stdout)
    with a_worker(outbox, redis_url, settle):
        result = insend("replay", "--run", run)
    assert (result.exit_code, "1 delivered, 0 came back" in result.stdout) == (0, True)


def test_for_a_program_the_answer_is_json(insend: CommandLine, dead: uuid.UUID) -> None:
    done = json.loads(given(insend, dead, RIGHT, "--json").stdout)
    assert done == {"id": str(dead), "repaired": True, "run": done["run"]}
    assert len(done["run"]) == 32


def test_an_event_that_breaks_the_rules_is_refused_with_every_fault_and_stays_dead(
    insend: CommandLine, outbox: Outbox, dead: uuid.UUID
) -> None:
    result = given(insend, dead, {**RIGHT, "properties": {"order_id": "", "revenu": 1}})
    assert result.exit_code == 2
    for path in ("properties.order_id: is empty", "properties.revenue: missing", "did you mean revenue? (--no-strict"):
        assert path in result.stderr
    assert DeadLetters(outbox).count() == 1
    assert (
        given(insend, dead, {**RIGHT, "properties": {**RIGHT["properties"], "gift": 1}}, "--no-strict").exit_code == 0
    )


def test_personal_values_are_masked_but_a_change_of_them_shows(
    insend: CommandLine, outbox: Outbox, dead: uuid.UUID
) -> None:
    changed = {**RIGHT, "visitor_info": {"email": "amy@example.com"}}
    result = given(insend, dead, changed)
    assert "visitor_info.email: ••• -> •••" in result.stdout
    assert "example.com" not in result.output.replace("shop.example.com", "")
    open_to_all = given(insend, invalid(outbox, lane=BOB), {**changed, "visitor_uid": "bob"}, "--show-personal")
    assert 'visitor_info.email: "zoe@example.com" -> "amy@example.com"' in open_to_all.stdout


def test_control_characters_of_a_hostile_event_do_not_reach_the_terminal(insend: CommandLine, outbox: Outbox) -> None:
    hostile = invalid(outbox, {**STORED, "properties": {"\x1b[2J": "\x9b1m[red]"}})
    result = given(insend, hostile, RIGHT)
    assert result.exit_code == 0
    assert not {"\x1b", "\x9b"} & set(result.output)


@pytest.mark.parametrize(
    "payload",
    [
        *(b"\xff\x00 no JSON", b'{"a":1,"a":2}', b"[" * 20_000, b"", b'{"n":1e999}', b'{"\\ud800":"\\udfff"}'),
        *(b'{"a":' * depth + b"1" + b"}" * depth for depth in (100, 200, 300, 450, 600, 900)),
    ],
    ids=lambda payload: f"{payload[:20]!r} of {len(payload)}",
)
def test_a_letter_whose_payload_is_no_json_is_replaced_whole(
    insend: CommandLine, outbox: Outbox, payload: bytes
) -> None:
    result = given(insend, invalid(outbox, payload, None), RIGHT)
    assert result.exit_code == 0, result.output
    assert "lane: none -> shop/v/alice" in result.stdout
    assert waiting(outbox)[0]["properties"] == RIGHT["properties"]


def test_a_corrected_uid_moves_the_event_to_that_visitors_lane(
    insend: CommandLine, outbox: Outbox, dead: uuid.UUID
) -> None:
    result = given(insend, dead, {**RIGHT, "visitor_uid": "bob"})
    assert "lane: shop/v/alice -> shop/v/bob" in result.stdout
    assert (len(waiting(outbox, ALICE)), len(waiting(outbox, BOB))) == (0, 1)


def test_without_a_terminal_and_without_yes_nothing_is_done(
    insend: CommandLine, outbox: Outbox, dead: uuid.UUID
) -> None:
    result = insend("dead", "edit", dead, "--payload", json.dumps(RIGHT))
    assert (result.exit_code, "--yes" in result.stderr) == (2, True)
    assert DeadLetters(outbox).count() == 1


def test_the_letters_own_event_is_no_correction(insend: CommandLine, outbox: Outbox) -> None:
    valid = letter(outbox, payload=json.dumps(RIGHT, separators=(",", ":")).encode())
    first = given(insend, valid, RIGHT)  # host is added: that is one
    assert first.exit_code == 0
    bury(outbox, claim(outbox))
    again = given(insend, valid, RIGHT)
    assert (again.exit_code, f"`insend replay --id {valid}` sends it again" in again.stdout) == (0, True)
    assert json.loads(given(insend, valid, RIGHT, "--json").stdout) == {
        "id": str(valid),
        "repaired": False,
        "run": None,
    }
    assert DeadLetters(outbox).count() == 1


def test_a_letter_that_is_gone_is_a_usage_error(insend: CommandLine) -> None:
    result = given(insend, new_id(), RIGHT)
    assert (result.exit_code, "no dead letter" in result.stderr) == (2, True)


def test_a_record_of_a_newer_release_is_not_edited(insend: CommandLine, outbox: Outbox) -> None:
    newer = letter(outbox)
    stored = outbox.read("HGET", outbox.keys.dead, newer.bytes)
    at = stored.index(newer.bytes) - 17
    outbox.read("HSET", outbox.keys.dead, newer.bytes, stored[:at] + b"\x02" + stored[at + 1 :])
    result = given(insend, newer, RIGHT)
    assert (result.exit_code, "of a newer release" in result.stderr) == (2, True)


def test_while_another_replayed_event_of_the_visitor_waits_the_corrected_one_goes_behind_it(
    insend: CommandLine, outbox: Outbox, dead: uuid.UUID
) -> None:
    first = invalid(outbox)
    assert given(insend, first, RIGHT).exit_code == 0
    assert given(insend, dead, RIGHT).exit_code == 0
    assert [data[17:33] for data in outbox.read("LRANGE", outbox.keys.lane("shop/v/alice"), 0, -1)] == [
        first.bytes,
        dead.bytes,
    ]
    assert DeadLetters(outbox).count() == 0


def test_without_redis_the_exit_code_says_so(insend: CommandLine) -> None:
    away = {"INSEND_REDIS_URL": "redis://127.0.0.1:1/0"}
    result = insend("dead", "edit", new_id(), "--payload", json.dumps(RIGHT), "--yes", **away)
    assert result.exit_code == 3


def test_the_account_of_the_environment_is_not_needed(insend: CommandLine, outbox: Outbox, dead: uuid.UUID) -> None:
    del insend.settings["INSEND_APP_KEY"], insend.settings["INSEND_DOMAIN"]
    assert given(insend, dead, RIGHT).exit_code == 0
    assert waiting(outbox)[0]["domain"] == "shop.example.com"


# Who else names it


def test_an_invalid_letter_and_a_replay_that_skips_it_name_the_edit(insend: CommandLine, dead: uuid.UUID) -> None:
    assert f"insend dead edit {dead}" in insend("dead", "show", dead).stdout
    assert "insend dead edit ID" in insend("replay", "--yes").stdout


def test_a_valid_letter_does_not_name_the_edit(insend: CommandLine, outbox: Outbox) -> None:
    assert "dead edit" not in insend("dead", "show", letter(outbox)).stdout


def test_a_masked_letter_has_no_hash_that_would_prove_a_guess(insend: CommandLine, outbox: Outbox) -> None:
    dead = letter(outbox)
    assert "record_sha1" not in insend.json("dead", "show", dead)
    assert "record_sha1" in json.loads(insend("dead", "show", dead, "--json", "--show-personal").stdout)
