"""Whatever an event holds, it is refused at once or arrives as it was given, and its visitor's next one after it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from delivering import APP, drained

from insend_relay.console.sandbox.sandbox import Sandbox
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.producers import InSend, InvalidEvent


def nested(levels: int) -> dict[str, Any]:
    return {"deeper": nested(levels - 1)} if levels else {}


PASS = {
    "control characters": "\x00\x01\x1b[31m\r\n\t\x7f\u2028\u202e",
    "what ends a form": "&data=x;%26=+%00 +=&",
    "what JavaScript holds dear": {"__proto__": {"admin": True}, "constructor": "x", "toString": None},
    "what Lua and Redis hold dear": "{insend:1}:lane:app1/v/42\r\n*1\r\n$8\r\nFLUSHALL\r\n",
    "nearly 64 KB": "я" * 30_000,
    "deep nesting": nested(28),
    "a number of 600 digits": 10**600,
    "numbers at the ends": [1.7976931348623157e308, 5e-324, -0.0, 2**63, -(2**63)],
    "many small things": list(range(10_000)),
}
REFUSED = {
    "more than 64 KB": "x" * 70_000,
    "nesting without end": nested(200),
    "a number of 700 digits": 10**700,
    "no number": float("nan"),
    "half a character": "\ud800",
    "bytes": b"\xff",
}


@pytest.fixture
def insend(settings: Settings) -> Any:
    given = {"redis_url": settings.redis_url, "namespace": settings.namespace, "enqueue_timeout_ms": 10_000}
    with InSend(app_key=APP, domain="shop.example.com", **given) as insend:  # type: ignore[arg-type]
        yield insend


@pytest.mark.parametrize("what", PASS)
def test_it_arrives_as_it_was_given(
    what: str, insend: InSend, delivering: Callable[..., Any], outbox: Outbox, sandbox: Sandbox
) -> None:
    for value in (PASS[what], "the next one"):
        insend.custom(key="hostile", properties={"value": value}, visitor_uid="42")
    with delivering():
        books = drained(outbox)
    assert [event.properties["value"] for event in sandbox.requests] == [PASS[what], "the next one"]
    assert not any(event.faults for event in sandbox.requests)
    assert (books["accepted"], books["delivered"]) == (2, 2)


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused_with_its_place_and_not_with_its_value(what: str, insend: InSend, outbox: Outbox) -> None:
    with pytest.raises(InvalidEvent) as raised:
        insend.custom(key="hostile", properties={"value": REFUSED[what]}, visitor_uid="42")
    assert len(str(raised.value)) < 300
    assert outbox.read("EXISTS", outbox.keys.ledger) == 0


@pytest.mark.parametrize("uid", ["a/v/b", "x:y", "{insend:1}", "a b", "..", "v/1\r\nDEL x", "g" * 300])
def test_a_uid_with_separators_reaches_no_lane_but_its_own(uid: str, insend: InSend, outbox: Outbox) -> None:
    with contextlib.suppress(InvalidEvent):
        insend.link(visitor_uid=uid)
    lanes = outbox.read("KEYS", f"{outbox.keys.prefix}lane:*")
    assert lanes in ([], [outbox.keys.lane(f"{APP}/v/{uid}").encode()])
