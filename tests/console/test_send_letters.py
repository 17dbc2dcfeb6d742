"""What ``insend dead export`` writes, ``insend send --file`` reads back: each event takes its letter's place once."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from command_line import ALICE, BOB, CommandLine, bury, claim, letter, put
from command_line import event as some_event
from lanes import replay

from insend_relay.console.commands import send_file
from insend_relay.operations.dead import DeadLetters
from insend_relay.operations.repair import Corrected, repair, resend
from insend_relay.outbox.errors import OutboxFull, OutboxUnreachable
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.record import decode, new_id
from insend_relay.outbox.store import Outbox

ACCOUNT = {"app_key": "shop", "visitor_uid": "alice", "type": "purchase", "domain": "shop.example.com"}
VALID = json.dumps(
    {**ACCOUNT, "host": "shop.example.com", "properties": {"order_id": "7", "revenue": 0}}, separators=(",", ":")
).replace('"revenue":0', '"revenue":1.10')
INVALID: dict[str, Any] = {**ACCOUNT, "properties": {"order_id": "7", "revenue": "12,50"}}


def waiting(outbox: Outbox, lane: Lane = ALICE) -> list[bytes]:
    return [decode(data).payload for data in outbox.read("LRANGE", outbox.keys.lane(lane), 0, -1)]


def invalid(outbox: Outbox, payload: Any = INVALID, lane: Lane | None = ALICE) -> uuid.UUID:
    event_id = new_id()
    written = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    outbox.bury_invalid("shop", event_id, lane=lane, type="purchase", payload=written, faults="bad")
    return event_id


def exported(insend: CommandLine) -> list[dict[str, Any]]:
    """The lines of an export of all letters."""
    lines = insend("dead", "export", "-", "--show-personal").stdout.splitlines()
    return [json.loads(line) for line in lines]


def corrected(line: dict[str, Any], **properties: Any) -> dict[str, Any]:
    payload = line["payload"] or INVALID
    return {**line, "payload": {**payload, "properties": {**payload["properties"], "revenue": 12.5, **properties}}}


def send(insend: CommandLine, *lines: Any, **settings: str) -> Any:
    return insend("send", "--file", "-", stdin="".join(f"{json.dumps(line)}\n" for line in lines), **settings)


def counts(insend: CommandLine) -> tuple[int, int, int, int]:
    now = insend.json("audit")
    assert now["findings"] == []
    return tuple(now["counts"].get(name, 0) for name in ("accepted", "waiting", "dead", "discarded"))


def test_corrected_events_take_the_place_of_their_letters_and_the_books_say_so(
    insend: CommandLine, outbox: Outbox
) -> None:
    ids = [invalid(outbox), invalid(outbox, lane=None)]
    result = send(insend, *(corrected(line) for line in exported(insend)))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "2 events sent" in result.stdout
    assert "2 kept in the place of a dead letter" in result.stdout
    assert [json.loads(payload)["properties"]["revenue"] for payload in waiting(outbox)] == [12.5, 12.5]
    assert counts(insend) == (4, 2, 0, 2)
    stored = [decode(data).id for data in outbox.read("LRANGE", outbox.keys.lane(ALICE), 0, -1)]
    assert not {found.bytes for found in ids} & set(stored)


def test_the_text_of_a_value_that_was_refused_is_not_sent_by_itself(insend: CommandLine, outbox: Outbox) -> None:
    kept_as_text = {**ACCOUNT, "properties": {"order_id": "{1, 2}", "revenue": 5}}
    invalid(outbox, kept_as_text)
    (line,) = exported(insend)
    result = send(insend, line)
    assert (result.exit_code, counts(insend)) == (2, (1, 0, 1, 0))
    assert "line 1: payload: is not corrected" in result.stderr
    line["payload"]["properties"]["order_id"] = "12"
    assert send(insend, line).exit_code == 0


def test_strict_false_is_a_correction(insend: CommandLine, outbox: Outbox) -> None:
    invalid(outbox, {**ACCOUNT, "properties": {"order_id": "7", "revenue": 5, "shop": "north"}})
    (line,) = exported(insend)
    assert send(insend, line).exit_code == 2
    assert send(insend, {**line, "strict": False}).exit_code == 0


def test_a_second_run_of_the_same_file_sends_nothing_also_when_the_event_died_again(
    insend: CommandLine, outbox: Outbox
) -> None:
    invalid(outbox)
    lines = [corrected(line) for line in exported(insend)]
    assert send(insend, *lines).exit_code == 0
    again = send(insend, *lines)
    assert (again.exit_code, "0 events sent" in again.stdout) == (0, True)
    assert "1 not sent: the dead letter is gone" in again.stdout
    bury(outbox, claim(outbox))
    assert "0 events sent" in send(insend, *lines).stdout
    assert counts(insend) == (2, 0, 1, 1)


def test_a_valid_letter_goes_through_an_export_to_the_byte(insend: CommandLine, outbox: Outbox, tmp_path: Path) -> None:
    letter(outbox, payload=VALID.encode())
    assert insend("dead", "export", tmp_path / "letters").exit_code == 0
    assert insend("send", "--file", tmp_path / "letters").exit_code == 0
    assert waiting(outbox) == [VALID.encode()]


def test_letters_of_other_apps_than_the_environments_are_sent_to_their_own(insend: CommandLine, outbox: Outbox) -> None:
    other = Lane("second", "v", "alice")
    letter(outbox, other, VALID.replace('"shop"', '"second"').encode())
    lines = exported(insend)
    del insend.settings["INSEND_APP_KEY"], insend.settings["INSEND_DOMAIN"]
    assert send(insend, *lines).exit_code == 0
    assert len(waiting(outbox, other)) == 1


def test_letters_and_plain_events_may_stand_in_one_file_and_go_in_its_order(
    insend: CommandLine, outbox: Outbox
) -> None:
    invalid(outbox)
    plain = [{"type": "custom", "visitor_uid": "alice", "properties": {"key": key}} for key in ("a", "b")]
    result = send(insend, plain[0], corrected(exported(insend)[0]), plain[1])
    assert (result.exit_code, "3 events sent" in result.stdout) == (0, True)
    assert [json.loads(payload)["type"] for payload in waiting(outbox)] == ["custom", "purchase", "custom"]


@pytest.mark.parametrize(
    "payload", [b"\xff\x00", b"{", b'{"a":1,"a":2}', b'{"price":0.1000000000000000055511151231257827}']
)
def test_a_payload_that_the_export_could_not_write_as_json_is_filled_in(
    insend: CommandLine, outbox: Outbox, payload: bytes
) -> None:
    invalid(outbox, payload, None)
    (line,) = exported(insend)
    assert line["payload"] is None
    refused = send(insend, line)
    assert (refused.exit_code, "line 1: payload: missing; write the corrected event here" in refused.stderr) == (
        2,
        True,
    )
    assert send(insend, {**line, "payload": json.loads(VALID)}).exit_code == 0
    assert len(waiting(outbox)) == 1


def test_a_line_that_is_still_wrong_is_told_by_its_number_and_nothing_of_the_file_is_sent(
    insend: CommandLine, outbox: Outbox
) -> None:
    for _ in range(5):
        invalid(outbox)
    first, unchanged, elsewhere, renamed, unknown = exported(insend)
    lines = [
        corrected(first),
        unchanged,
        {**corrected(elsewhere), "visitor_uid": "bob"},
        {**corrected(renamed), "payload_text": "{}"},
        {**corrected(unknown), "flavour": 1, "strict": "no"},
        corrected(first),
        {"id": "7", "payload": {}},
        {"id": first["id"], "payload": {}},
        {"type": "custom"},
    ]
    result = send(insend, *lines)
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        'line 2: properties.revenue: must be a number, not str; write 12.50, without quotes, for "12,50"',
        "line 3: visitor_uid: was changed; make the correction in payload",
        "line 4: payload_text: was changed; make the correction in payload",
        "line 5: flavour: not a field of an exported letter",
        "line 5: strict: must be true or false",
        "line 6: id: the letter of line 1 once more",
        "line 7: id: is not the id of a dead letter",
        "line 8: record_sha1: missing; only what `insend dead export` writes can be sent",
        "line 9: it names neither a visitor nor a guest",
        "line 9: properties.key: missing",
        "insend: nothing was sent: 8 of 9 lines cannot be used",
    ]
    assert counts(insend) == (5, 0, 5, 0)


def test_what_the_masked_list_shows_cannot_be_sent(insend: CommandLine, outbox: Outbox) -> None:
    letter(outbox, payload=VALID.encode())
    result = insend("send", "--file", "-", stdin=insend("dead", "list", "--json").stdout)
    assert (result.exit_code, "record_sha1: missing" in result.stderr) == (2, True)


def test_unknown_properties_pass_where_the_line_says_so(insend: CommandLine, outbox: Outbox) -> None:
    invalid(outbox)
    line = corrected(exported(insend)[0], gift=True)
    refused = send(insend, line)
    assert (refused.exit_code, 'no such field ("strict": false sends it as it is)' in refused.stderr) == (2, True)
    assert send(insend, {**line, "strict": False}).exit_code == 0
    assert b'"gift":true' in waiting(outbox)[0]


def test_a_letter_that_was_corrected_since_the_export_is_a_fault(insend: CommandLine, outbox: Outbox) -> None:
    dead = invalid(outbox)
    lines = [corrected(line) for line in exported(insend)]
    repair(outbox, DeadLetters(outbox).get(dead), Corrected(ALICE, "", some_event()))
    bury(outbox, claim(outbox))
    result = send(insend, *lines)
    assert (result.exit_code, "line 1: record_sha1: the letter was corrected since the export" in result.stderr) == (
        2,
        True,
    )
    assert counts(insend) == (1, 0, 1, 0)


def test_a_letter_that_was_replayed_and_died_again_since_the_export_is_sent(
    insend: CommandLine, outbox: Outbox
) -> None:
    dead = letter(outbox, payload=VALID.encode())
    lines = exported(insend)
    replay(outbox, dead.bytes)
    bury(outbox, claim(outbox), reason="unknown")
    assert send(insend, *lines).exit_code == 0
    assert counts(insend) == (2, 1, 0, 1)


def test_a_letter_that_changes_between_the_check_and_its_turn_is_left_and_is_a_finding(
    insend: CommandLine, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    invalid(outbox)
    second = invalid(outbox, {**INVALID, "visitor_uid": "bob"}, BOB)
    lines = [corrected(line) for line in exported(insend)]

    def while_another_operator_works(*args: Any) -> Any:
        if DeadLetters(outbox).find([second]):
            found = DeadLetters(outbox).get(second)
            if found.reason == "invalid":
                repair(outbox, found, Corrected(BOB, "", some_event()))
                bury(outbox, claim(outbox, BOB))
        return resend(*args)

    monkeypatch.setattr(send_file, "resend", while_another_operator_works)
    result = send(insend, *lines)
    assert result.exit_code == 1
    assert "1 event sent" in result.stdout
    assert "1 not sent: the dead letter was corrected meanwhile" in result.stdout


def test_where_sending_is_switched_off_the_letters_stay(insend: CommandLine, outbox: Outbox) -> None:
    invalid(outbox)
    result = send(insend, *(corrected(line) for line in exported(insend)), INSEND_ENABLED="0")
    assert (result.exit_code, "1 not kept: sending is switched off" in result.stdout) == (0, True)
    assert counts(insend) == (1, 0, 1, 0)


def test_without_redis_nothing_is_sent_and_nothing_goes_into_the_spool(
    insend: CommandLine, outbox: Outbox, tmp_path: Path
) -> None:
    invalid(outbox)
    lines = [corrected(line) for line in exported(insend)]
    away = {"INSEND_REDIS_URL": "redis://127.0.0.1:1/0", "INSEND_SPOOL": str(tmp_path / "spool.db")}
    result = send(insend, *lines, **away)
    assert result.exit_code == 3
    assert "0 of 1 event sent. The next one is in line 1" in result.stderr
    assert insend("spool", **away).exit_code == 0, "it is empty"
    assert counts(insend) == (1, 0, 1, 0)


@pytest.mark.parametrize(
    ("stop", "code"),
    [(OutboxUnreachable("gone", unknown=True), 3), (OutboxFull("full"), 3), (KeyboardInterrupt(), 130)],
)
def test_what_stops_in_the_middle_says_from_which_line_to_go_on(
    insend: CommandLine, outbox: Outbox, monkeypatch: pytest.MonkeyPatch, stop: BaseException, code: int
) -> None:
    for _ in range(3):
        invalid(outbox)
    lines = [corrected(line) for line in exported(insend)]
    sent: list[uuid.UUID] = []

    def until_the_second(outbox: Outbox, letter_id: uuid.UUID, *rest: Any) -> Any:
        if sent:
            raise stop
        sent.append(letter_id)
        return resend(outbox, letter_id, *rest)

    monkeypatch.setattr(send_file, "resend", until_the_second)
    result = send(insend, *lines)
    assert (result.exit_code, "1 of 3 events sent. The next one is in line 2" in result.stderr) == (code, True)
    monkeypatch.undo()
    assert "2 events sent" in send(insend, *lines).stdout, "the whole file once more is harmless"
    assert counts(insend) == (6, 3, 0, 3)


def test_hundreds_of_letters_are_sent_in_their_order(insend: CommandLine, outbox: Outbox) -> None:
    for number in range(230):
        invalid(outbox, {**INVALID, "properties": {"order_id": number, "revenue": "much"}})
    assert send(insend, *(corrected(line) for line in exported(insend))).exit_code == 0
    orders = [json.loads(payload)["properties"]["order_id"] for payload in waiting(outbox)]
    assert orders == [str(number) for number in range(230)]
    assert counts(insend) == (460, 230, 0, 230)


def test_an_event_of_the_largest_size_goes_through(insend: CommandLine, outbox: Outbox) -> None:
    letter(outbox, payload=VALID.replace('"7"', f'"{"7" * 65_000}"').encode())
    put(outbox)
    assert send(insend, *exported(insend)).exit_code == 0
    assert len(waiting(outbox)[1]) > 65_000


def test_an_interruption_after_the_last_line_names_no_next_one(capsys: pytest.CaptureFixture[str]) -> None:
    send_file._say_where_to_go_on([(1, b"{}"), (2, b"{}")], 2)
    assert capsys.readouterr().err == "2 of 2 events sent.\n"


def test_letters_of_the_same_event_are_exported_and_sent_each_by_itself(insend: CommandLine, outbox: Outbox) -> None:
    event_id = new_id()
    for order in ("7", "8"):
        broken = {**INVALID, "properties": {"order_id": order, "revenue": "12,50"}}
        outbox.bury_invalid(
            "shop", event_id, lane=ALICE, type="purchase", payload=json.dumps(broken).encode(), faults="bad"
        )
    lines = exported(insend)
    assert len({line["id"] for line in lines}) == 2
    assert send(insend, *map(corrected, lines)).exit_code == 0
    assert [json.loads(payload)["properties"]["order_id"] for payload in waiting(outbox)] == ["7", "8"]
    assert counts(insend) == (4, 2, 0, 2)
