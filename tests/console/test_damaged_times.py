"""A record whose time of acceptance was damaged: every command works, and says that it is no date."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest
from command_line import ALICE, BOB, CommandLine, claim, event, letter, put

from insend_relay.operations.dead import DeadLetters
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.letter import letter_meta
from insend_relay.outbox.store import Outbox

IMPOSSIBLE = (1_700_000_000_000 | 1 << 63, 2**64 - 1)
SHOWN = {0: "1970-01-01T00:00:00.000Z"}  # the others are null

times = pytest.mark.parametrize("ms", [*IMPOSSIBLE, 0])


EVENT = event(app_key="shop", visitor_uid="alice", host="shop.example.com", properties={"order_id": "7", "revenue": 1})


def damage(outbox: Outbox, ms: int, lane: Lane = ALICE) -> uuid.UUID:
    """The head of a lane was accepted at this time; its id."""
    event_id = put(outbox, lane, EVENT)
    data = outbox.read("LINDEX", outbox.keys.lane(lane), 0)
    outbox.read("LSET", outbox.keys.lane(lane), 0, data[:9] + ms.to_bytes(8) + data[17:])
    return event_id


def damaged_letter(outbox: Outbox, ms: int) -> uuid.UUID:
    event_id = damage(outbox, ms)
    meta = letter_meta(outcome="answered", status=400, answer="no", attempts=1)
    outbox.bury(claim(outbox, ALICE), type="purchase", reason="answered 400", meta=meta, lease_ms=0)
    return event_id


@times
def test_a_visitor_is_shown_and_the_head_can_be_buried(insend: CommandLine, outbox: Outbox, ms: int) -> None:
    damage(outbox, ms)
    assert insend.json("visitor", "alice")["lanes"][0]["head"]["accepted_at"] == SHOWN.get(ms)
    shown = insend("visitor", "alice").stdout
    assert f"accepted no date ({ms} ms)" in shown if ms else "d ago" in shown
    assert "now a dead letter" in insend("visitor", "alice", "--bury-head", "--yes").stdout
    assert insend.json("visitor", "alice")["dead"][0]["accepted_at"] == SHOWN.get(ms)
    assert insend("status").exit_code == insend("audit").exit_code == 0


@times
def test_a_letter_is_listed_and_exported_with_the_others(
    insend: CommandLine, outbox: Outbox, ms: int, tmp_path: Path
) -> None:
    damaged, other = damaged_letter(outbox, ms), letter(outbox, BOB, EVENT.replace(b"alice", b"bob"))
    assert str(damaged) in insend("dead", "list").stdout
    lines = [json.loads(line) for line in insend("dead", "list", "--json").stdout.splitlines()]
    assert (lines[0]["id"], lines[0]["accepted_at"]) == (str(damaged), SHOWN.get(ms))
    assert insend.json("dead", "show", damaged)["accepted_at"] == SHOWN.get(ms)
    shown = insend("dead", "show", damaged).stdout
    assert f"no date ({ms} ms)" in shown if ms else "1970-01-01 00:00:00 UTC" in shown
    assert insend("dead", "export", tmp_path / "letters").exit_code == 0
    exported = [json.loads(line) for line in (tmp_path / "letters").read_text().splitlines()]
    assert [line["id"] for line in exported] == [str(damaged), str(other)]
    sent = insend("send", "--file", tmp_path / "letters")
    assert (sent.exit_code, DeadLetters(outbox).count()) == (0, 0)


def test_a_letter_that_died_at_no_date_is_listed(insend: CommandLine, outbox: Outbox) -> None:
    dead = letter(outbox)
    data = outbox.read("HGET", outbox.keys.dead, dead.bytes)
    outbox.read("HSET", outbox.keys.dead, dead.bytes, data[:1] + b"\x80" + bytes(7) + data[9:])
    outbox.read("HSET", outbox.keys.dead_groups, "purchase\tanswered 400\tlast_ms", 2**63 - 1)
    assert f"no date ({2**63} ms)" in insend("dead", "list").stdout
    assert f"no date ({2**63} ms)" in insend("dead", "show", dead).stdout
    assert f"no date ({2**63 - 1} ms)" in insend("dead", "groups").stdout
    assert insend.json("dead", "groups")[0]["last_seen"] is None
    assert json.loads(insend("dead", "list", "--json").stdout)["died_at"] is None
