"""The question behind an append: its answers, and when it is asked again after none came."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from insend_relay.outbox.durability import Asking, Durability, Question, patience_ms
from insend_relay.outbox.errors import OutboxRefused, OutboxUnreachable


def question(setting: Durability) -> Question:
    asking = Asking.about(setting)
    assert asking
    return asking.question


@pytest.mark.parametrize(
    ("setting", "reply", "holds"),
    [
        ("fsync", [1, 0], True),
        ("fsync", [0, 2], False),
        ("fsync", [], False),
        ("replicated", 2, True),
        ("replicated", 0, False),
        ("replicated", None, False),
        ("replicated", b"OK", False),
        ("replicated", ResponseError("ERR no"), False),
    ],
)
def test_an_answer_is_yes_or_no(setting: Durability, reply: Any, *, holds: bool) -> None:
    assert question(setting).holds(reply) is holds


def test_a_question_never_waits_for_ever() -> None:
    assert question("replicated").command(0) == ("WAIT", 1, 1)


def test_a_new_connection_is_not_kept_waiting_by_replicas_that_there_are_not() -> None:
    assert question("replicated").probe == ("WAIT", 0, 1)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (NoPermissionError("no permissions"), OutboxRefused, "give it [+]wait"),
        (ResponseError("unknown command 'WAIT'"), OutboxRefused, "go round the proxy, or set INSEND_DURABILITY=memory"),
        (ResponseError("WAIT cannot be used with replica instances"), OutboxUnreachable, "read-only replica"),
        (ResponseError("whatever"), OutboxRefused, r"INSEND_DURABILITY=replicated: Redis refuses WAIT \(whatever\)"),
    ],
)
def test_a_refusal_says_what_to_do(error: ResponseError, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        raise question("replicated").refusal(error)


def test_nothing_is_asked_for_memory() -> None:
    assert Asking.about("memory") is None


def test_while_no_answer_comes_it_is_asked_ever_more_rarely(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    asking = Asking.about("replicated")
    assert asking
    assert asking.may_ask()
    asked_at = []
    assert not asking.heard(0)
    for _ in range(3_500):
        now[0] += 0.01
        if asking.may_ask():
            asked_at.append(now[0] - 1_000)
            assert not asking.heard(None)
    assert asked_at == pytest.approx([0.25, 0.75, 1.75, 3.75, 7.75, 15.75, 23.75, 31.75], abs=0.15)
    assert [asking.heard(1) for _ in range(80)] == [True] * 80
    assert asking.may_ask()
    assert [line.partition(":")[0] for line in caplog.messages] == [
        "no event is confirmed",
        "events are confirmed again (INSEND_DURABILITY=replicated)",
    ]


def test_a_yes_now_and_then_does_not_make_calls_wait_again_and_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As under ``appendfsync everysec``, where it is a matter of luck."""
    now = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    asking = Asking.about("fsync")
    assert asking
    waits = 0
    chances = random.Random(1)
    for _ in range(6_000):  # a minute
        now[0] += 0.01
        if asking.may_ask():
            now[0] += 0.1
            waits += not asking.heard([int(chances.random() < 0.6), 0])
    assert waits < 60
    assert len(caplog.messages) < 4


def test_how_long_a_call_waits_is_a_share_of_what_it_has_left() -> None:
    assert patience_ms(0.25) == 100
    assert patience_ms(0.16) == 50, "Redis may be 100 ms late"
    assert patience_ms(-1) == 1
