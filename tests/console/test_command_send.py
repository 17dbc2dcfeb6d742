from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine
from waiting import PATIENCE_SECONDS, wait_until

from insend_relay.outbox.keys import Lane
from insend_relay.outbox.record import decode
from insend_relay.outbox.store import Outbox

ALICE = Lane("shop", "v", "alice")


def waiting(outbox: Outbox, lane: Lane = ALICE) -> list[bytes]:
    return [decode(data).payload for data in outbox.read("LRANGE", outbox.keys.lane(lane), 0, -1)]


def lines(*events: Any) -> str:
    return "".join(json.dumps(event) + "\n" for event in events)


def custom(key: str = "signup", **more: Any) -> dict[str, Any]:
    return {"type": "custom", "visitor_uid": "alice", "properties": {"key": key}, **more}


def test_one_event_is_kept_with_everything_that_was_said(insend: CommandLine, outbox: Outbox) -> None:
    result = insend(
        *(
            "send",
            "purchase",
            "--visitor-uid",
            "alice",
            "--guest-uid",
            "g1",
            "--url",
            "https://shop.example.com/thanks",
        ),
        *(
            "--title",
            "Thanks",
            "--properties",
            '{"order_id": "7", "revenue": 1.10}',
            "--visitor-info",
            '{"phone": "5"}',
        ),
    )
    assert result.exit_code == 0
    assert "kept" in result.stdout
    (payload,) = waiting(outbox)
    sent = json.loads(payload)
    assert b'"revenue":1.10' in payload
    assert (sent["type"], sent["visitor_uid"], sent["guest_uid"]) == ("purchase", "alice", "g1")
    assert (sent["url"], sent["title"], sent["visitor_info"]) == (
        "https://shop.example.com/thanks",
        "Thanks",
        {"phone": "5"},
    )


def test_properties_come_from_a_file_or_from_stdin(insend: CommandLine, outbox: Outbox, tmp_path: Path) -> None:
    (tmp_path / "signup.json").write_text('{"key": "one"}')
    assert insend("send", "custom", "--visitor-uid", "alice", "--properties", f"@{tmp_path}/signup.json").exit_code == 0
    sent = insend("send", "custom", "--visitor-uid", "alice", "--properties", "-", stdin='{"key": "two"}')
    assert sent.exit_code == 0
    assert [json.loads(payload)["properties"]["key"] for payload in waiting(outbox)] == ["one", "two"]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("{", "not JSON"),
        ('{"a": 1e999999999999999999999}', "out of all bounds"),
        ("[1]", "must be a JSON object"),
        ('{"key": NaN}', "NaN is no JSON number"),
        ("@/nowhere/at-all.json", "No such file"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_properties_that_cannot_be_read_are_usage_errors(insend: CommandLine, given: str, complaint: str) -> None:
    result = insend("send", "custom", "--visitor-uid", "alice", "--properties", given)
    assert result.exit_code == 2
    assert complaint in result.stderr


def test_an_event_that_breaks_the_rules_is_refused_with_every_fault_even_where_a_site_buries_them(
    insend: CommandLine,
) -> None:
    result = insend("send", "purchase", "--visitor-uid", "alice", INSEND_INVALID="bury")
    assert result.exit_code == 2
    assert "properties.order_id: missing" in result.stderr
    assert "properties.revenue: missing" in result.stderr
    assert insend.json("status")["dead"] == 0


def test_a_second_event_of_the_same_idempotency_key_is_a_duplicate(insend: CommandLine, outbox: Outbox) -> None:
    once = ["send", "custom", "--visitor-uid", "alice", "--properties", '{"key": "a"}', "--idempotency-key", "order 7"]
    first, second = insend(*once), insend(*once)
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert "was kept before" in second.stdout
    assert first.stdout[:36] == second.stdout[:36]
    assert len(waiting(outbox)) == 1


@pytest.mark.parametrize("uids", [[], ["--visitor-uid", ""], ["--visitor-uid", " ", "--guest-uid", ""]])
def test_an_event_about_no_one_is_not_kept_and_the_exit_code_says_so(insend: CommandLine, uids: list[str]) -> None:
    result = insend("send", "custom", *uids, "--properties", '{"key": "a"}')
    assert (result.exit_code, result.stdout) == (2, "")
    assert "not kept: it names neither a visitor nor a guest" in result.stderr


@pytest.mark.parametrize("arguments", [["custom", "--properties", '{"key": "a"}'], ["--file", "-"]])
def test_where_sending_is_switched_off_nothing_is_kept_and_that_is_no_failure(
    insend: CommandLine, outbox: Outbox, arguments: list[str]
) -> None:
    who = [] if "--file" in arguments else ["--visitor-uid", "alice"]
    off = insend("send", *arguments, *who, stdin=lines(custom()), INSEND_ENABLED="0")
    assert off.exit_code == 0
    assert "not kept: sending is switched off (INSEND_ENABLED)" in off.stdout
    assert waiting(outbox) == []


def test_what_the_rules_do_not_know_is_sent_as_it_is_when_asked_for(insend: CommandLine, outbox: Outbox) -> None:
    unknown = ["send", "view_shelf", "--visitor-uid", "alice", "--properties", '{"colour": "red"}']
    refused = insend(*unknown)
    assert refused.exit_code == 2
    assert "(--no-strict sends it as it is)" in refused.stderr
    assert insend(*unknown, "--no-strict").exit_code == 0
    link = {"type": "link", "visitor_uid": "alice", "url": "https://shop.example.com/", "properties": {"shelf": 7}}
    refused = insend("send", "--file", "-", stdin=lines(link))
    assert refused.exit_code == 2
    assert 'no such field ("strict": false sends it as it is)' in refused.stderr
    assert insend("send", "--file", "-", stdin=lines({**link, "strict": False})).exit_code == 0
    assert [json.loads(payload)["properties"] for payload in waiting(outbox)] == [{"colour": "red"}, {"shelf": 7}]


def test_a_file_is_sent_in_its_order_and_counted(insend: CommandLine, outbox: Outbox, tmp_path: Path) -> None:
    file = tmp_path / "events.ndjson"
    purchase = '{"type": "purchase", "visitor_uid": "alice", "properties": {"order_id": "7", "revenue": 1.10}}\n'
    text = lines(custom("one")) + "\n" + purchase + lines(custom("three"))
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    result = insend("send", "--file", file)
    assert result.exit_code == 0
    assert "3 events sent" in result.stdout
    assert "3 kept, and delivered once" in result.stdout
    assert [json.loads(payload)["type"] for payload in waiting(outbox)] == ["custom", "purchase", "custom"]
    assert b'"revenue":1.10' in waiting(outbox)[1]


def test_a_file_may_come_from_stdin(insend: CommandLine, outbox: Outbox) -> None:
    assert insend("send", "--file", "-", stdin=lines(custom())).exit_code == 0
    assert len(waiting(outbox)) == 1


def test_of_a_file_with_faults_nothing_is_sent_and_every_fault_is_listed(insend: CommandLine, outbox: Outbox) -> None:
    text = lines(custom(), custom(flavour=1), {"properties": {}}, {"type": "purchase", "visitor_uid": "alice"})
    text += "{\n" + lines(custom(visitor_uid=None), custom(visitor_uid="", guest_uid="g1"))
    result = insend("send", "--file", "-", stdin=text)
    assert result.exit_code == 2
    for complaint in (
        "line 2: flavour: not a field of an event",
        "line 3: type: missing",
        "line 4: properties.order_id: missing",
        "line 4: properties.revenue: missing",
        "line 5: not JSON",
        "line 6: it names neither a visitor nor a guest",
        "nothing was sent: 5 of 7 lines cannot be used",
    ):
        assert complaint in result.stderr
    assert waiting(outbox) == []


def test_a_field_of_the_wrong_kind_is_a_fault_of_its_line(insend: CommandLine) -> None:
    text = lines(custom(type=1), custom(properties=[]), custom(url=[]), custom(idempotency_key=7), custom(strict=0))
    result = insend("send", "--file", "-", stdin=text)
    assert result.exit_code == 2
    *faults, _ = result.stderr.splitlines()
    assert [line.split(":")[0] for line in faults] == [f"line {n}" for n in (1, 2, 3, 4, 5)]


def test_bytes_that_are_no_text_are_a_fault_of_their_line(insend: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "events").write_bytes(b'{"type": "custom\xff"}\n')
    result = insend("send", "--file", tmp_path / "events")
    assert result.exit_code == 2
    assert "line 1: not UTF-8" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["custom", "--file", "-"],
        ["--file", "-", "--visitor-uid", "alice"],
        ["--file", "-", "--no-strict"],
        ["--file", "/nowhere/x"],
    ],
)
def test_what_does_not_go_together_is_a_usage_error(insend: CommandLine, arguments: list[str]) -> None:
    result = insend("send", *arguments)
    assert result.exit_code == 2
    assert result.stderr


def test_without_redis_the_event_is_not_kept_and_the_exit_code_says_so(insend: CommandLine) -> None:
    away = {"INSEND_REDIS_URL": "redis://127.0.0.1:1/0"}
    result = insend("send", "custom", "--visitor-uid", "alice", "--properties", '{"key": "a"}', **away)
    assert result.exit_code == 3
    assert "not kept" in result.stderr
    result = insend("send", "--file", "-", stdin=lines(custom()), **away)
    assert result.exit_code == 3
    assert "0 of 1 event sent" in result.stderr
    assert "line 1" in result.stderr


def test_ctrl_c_in_the_middle_says_from_which_line_to_go_on(insend: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "events").write_text(lines(custom()))
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a Redis that never answers
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        with insend.started(
            "send", "--file", tmp_path / "events", INSEND_REDIS_URL=url, INSEND_ENQUEUE_TIMEOUT_MS="60000"
        ) as process:
            silent.settimeout(PATIENCE_SECONDS)
            connected, _ = silent.accept()
            with connected:
                wait_until(lambda: connected.recv(1, socket.MSG_PEEK))
                process.send_signal(signal.SIGINT)
                _, complaints = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130
    assert "0 of 1 event sent" in complaints
    assert "Traceback" not in complaints
