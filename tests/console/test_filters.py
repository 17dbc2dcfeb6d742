from __future__ import annotations

from datetime import datetime

import pytest
from lanes import BOB, letter

from insend_relay.console.commands.filters import Moment, Wanted
from insend_relay.operations.dead import DeadLetters
from insend_relay.operations.status import read_clock
from insend_relay.outbox.store import Outbox

NOW_MS = 1_700_000_000_000
HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("text", "age_ms"),
    [
        ("30s", 30_000),
        ("5m", 300_000),
        ("5 min", 300_000),
        ("2h", 2 * HOUR_MS),
        ("3D", 72 * HOUR_MS),
        ("1w", 168 * HOUR_MS),
    ],
)
def test_an_age_counts_back_from_now(text: str, age_ms: int) -> None:
    assert Moment.parse(text).ms(NOW_MS) == NOW_MS - age_ms


@pytest.mark.parametrize("text", ["2023-11-14T22:13:20Z", "2023-11-14T23:13:20+01:00", " 2023-11-14 22:13:20+00:00 "])
def test_a_time_with_a_zone_is_that_time(text: str) -> None:
    assert Moment.parse(text).ms(0) == NOW_MS


def test_a_time_without_a_zone_is_local() -> None:
    local = datetime.fromtimestamp(NOW_MS / 1000).astimezone().replace(tzinfo=None).isoformat()
    assert Moment.parse(local).ms(0) == NOW_MS


@pytest.mark.parametrize("text", ["", "soon", "2x", "h", "2026-13-01", "0001-01-01"])
def test_anything_else_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="2h or 3d"):
        Moment.parse(text)


def test_what_dies_after_now_is_not_meant(outbox: Outbox) -> None:
    old = letter(outbox)
    meant = Wanted().filter(outbox)
    letter(outbox, BOB)
    assert [found.id.bytes for found in DeadLetters(outbox).scan(meant)] == [old]


def test_an_age_counts_back_from_now_on_redis_s_clock(outbox: Outbox) -> None:
    before = read_clock(outbox)
    meant = Wanted(since=Moment.parse("3h"), until=Moment.parse("2h")).filter(outbox)
    after = read_clock(outbox)
    assert before <= (meant.since_ms or 0) + 3 * HOUR_MS <= after
    assert before <= (meant.until_ms or 0) + 2 * HOUR_MS <= after
