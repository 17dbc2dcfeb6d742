"""A status in which nothing is wrong, to be changed by ``dataclasses.replace``."""

from __future__ import annotations

from insend_relay.operations.status import Status

NOW = 1_700_000_000_000  # 2023-11-14 22:13 UTC
AT_0211 = 1_699_927_860_000  # 2023-11-14 02:11 UTC
OK = Status(
    accepted=100,
    delivered=88,
    waiting=12,
    dead=0,
    discarded=0,
    replayed=0,
    spooled=0,
    duplicates_possible=0,
    no_visitor=0,
    oldest_waiting_seconds=0.3,
    held_lanes=0,
    paused=[],
    redis_headroom_bytes=None,
    full_in_seconds=None,
    balanced=True,
    now_ms=NOW,
)
