"""A call may come from a signal handler or from ``__del__``, in the middle of another: none hangs or is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import reentering
from uncovered import without_coverage

FEW_LINES = 20  # a call has hundreds of them; fewer would mean that they are not traced

# By the way of calling: where the outer events end, and the inner ones.
LINES = {
    "lines of the first call": ({"1 redis"}, {"2 redis"}),
    "lines of a later call": ({"1 redis"}, {"2 redis"}),
    "lines of a call on a stale connection": ({"1 redis"}, {"2 redis"}),
    "lines of a call that is spooled": ({"3 spool", "1 spool"}, {"2 spool"}),
    "lines of a call that follows into the spool": ({"3 spool"}, {"2 redis"}),
    "lines of the making": ({"1 redis"}, {"2 redis"}),
    "lines of the closing": (set(), {"2 redis", "2 spool"}),
}
MANY = {
    "signals": {"1 redis", "2 redis"},
    "signals, without Redis": {"1 spool", "2 spool"},
    "garbage": {"1 redis", "2 redis"},
    "garbage in two event loops": {"1 redis", "2 redis"},
}


def run(way: str, redis_url: str, namespace: str, tmp_path: Path) -> tuple[int, dict[str, int]]:
    """How many there were, and what became of all events."""
    words = [sys.executable, reentering.__file__, way, redis_url, namespace, str(tmp_path / "spool.db")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False, env=without_coverage())
    assert done.returncode == 0, done.stderr[-5_000:]
    said = json.loads(done.stdout)
    return said["number"], said["outcomes"]


@pytest.mark.parametrize("way", LINES)
def test_a_call_at_any_line_of_another_is_kept_and_so_is_that_one(
    way: str, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    number, outcomes = run(way, redis_url, namespace, tmp_path)
    outer, inner = LINES[way]
    assert number > FEW_LINES
    assert outcomes.keys() <= outer | inner
    assert sum(outcomes.get(one, 0) for one in inner) == number


@pytest.mark.parametrize("way", MANY)
def test_thousands_of_events_in_the_middle_of_others_are_all_kept(
    way: str, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    number, outcomes = run(way, redis_url, namespace, tmp_path)
    # The collector runs in the thread that connects, too: there a call cannot wait for it, and goes to the spool.
    assert outcomes.keys() - {"2 spool"} == MANY[way] - {"2 spool"}
    outer, inner = sorted(MANY[way])
    assert outcomes[outer] == number == reentering.EVENTS
    assert outcomes[inner] > 100


def test_from_garbage_without_redis_each_event_is_kept_or_refused(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    number, outcomes = run("garbage, without Redis", redis_url, namespace, tmp_path)
    assert sum(outcomes.values()) == 2 * number
    refused = [outcome for outcome in outcomes if "not accepted" in outcome]
    # The collector runs in the spool's own thread, too: there a call cannot wait for that very thread.
    assert all("interrupts the thread" in outcome for outcome in refused), refused
    assert outcomes["1 spool"] == number
