"""The question behind an append: its answers, and when it is asked again after none came."""

from __future__ import annotations

import time
from typing import Any

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from insend_relay.outbox.durability import Asking, Durability, question
from insend_relay.outbox.errors import OutboxRefused, OutboxUnreachable


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
    asked = question(setting)
    assert asked
    assert asked.holds(reply) is holds


def test_a_question_never_waits_for_ever() -> None:
    asked = question("replicated")
    assert asked
    assert asked.command(0) == ("WAIT", 1, 1)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (NoPermissionError("no permissions"), OutboxRefused, "give it [+]wait"),
        (ResponseError("unknown command 'WAIT'"), OutboxRefused, "upgrade it, or set INSEND_DURABILITY=memory"),
        (ResponseError("WAIT cannot be used with replica instances"), OutboxUnreachable, "read-only replica"),
        (ResponseError("whatever"), OutboxRefused, r"INSEND_DURABILITY=replicated: Redis refuses WAIT \(whatever\)"),
    ],
)
def test_a_refusal_says_what_to_do(error: ResponseError, kind: type[Exception], said: str) -> None:
    asked = question("replicated")
    assert asked
    with pytest.raises(kind, match=said):
        raise asked.refusal(error)


def test_nothing_is_asked_for_memory() -> None:
    assert Asking.about("memory") is None


def test_while_no_answer_comes_it_is_asked_ever_more_rarely(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    asking = Asking.about("replicated")
    assert asking
    assert asking.patience.ms(0.25) == 100
    asked_at = []
    assert not asking.heard(0)
    for _ in range(3_500):
        now[0] += 0.01
        if asking.patience.ms(0.25):
            asked_at.append(now[0] - 1_000)
            assert not asking.heard(None)
    assert asked_at == pytest.approx([0.25, 0.5, 1, 2, 4, 8, 16, 24, 32], abs=0.11)
    now[0] += 10
    assert asking.heard(1)
    assert asking.patience.ms(0.25) == asking.patience.ms(0.25) == 100
    assert [line.split(":")[0] for line in caplog.messages] == [
        "events are kept, but not confirmed (INSEND_DURABILITY=replicated)",
        "events are confirmed again (INSEND_DURABILITY=replicated)",
    ]
