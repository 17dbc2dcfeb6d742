"""The first line of the status decides for the operator; "nothing to do" is said only of what ends by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
from sample_status import AT_0211, NOW
from sample_status import OK as STATUS

from insend_relay.console.commands.remedies import remedy
from insend_relay.console.commands.verdict import verdict
from insend_relay.operations.jumps import Jump
from insend_relay.operations.newer import Newer
from insend_relay.operations.status import Failing, Paused, Refusal, Status
from insend_relay.outbox.clock_steps import FarAhead
from insend_relay.outbox.fault import Fault, ends_by_itself
from insend_relay.outbox.heartbeat import NO_WORKERS, Workers
from insend_relay.outbox.keys import Lane

OK = replace(STATUS, workers=Workers(2, "web-1:4711", 1.0, 1))
AT_2211 = NOW - 100_000  # 2023-11-14 22:11 UTC
DOWN = Paused("shop", AT_2211, NOW + 40_000, "503", operator=False, fault="passing", delivered_at_ms=AT_0211)
REVOKED = Paused("third", AT_0211 + 1, NOW + 40_000, "401: key revoked", operator=False, fault="key")
BY_HAND = Paused("shop", AT_0211, None, "paused by an operator", operator=True)
QUIET = Lane("quiet", "v", "1")
JUMP = Jump(b"", AT_0211, 1_200, 3, 17)


@pytest.mark.parametrize(
    ("status", "level", "line"),
    [
        (OK, "ok", "OK: 12 waiting, oldest 0.3 s"),
        (replace(OK, waiting=0, oldest_waiting_seconds=None, workers=NO_WORKERS), "ok", "OK: nothing waiting"),
        (
            replace(OK, waiting=12_430, oldest_waiting_seconds=240, held_lanes=1),
            "ok",
            "OK: 12,430 waiting, oldest 4 min, 1 visitor being tried again",
        ),
        (replace(OK, full_in_seconds=21_600), "ok", "OK: 12 waiting, oldest 0.3 s, Redis full in ~6 h"),
        (
            replace(OK, full_in_seconds=1_200),
            "finding",
            "REDIS FULL in ~20 min: 12 waiting, oldest 0.3 s. Raise Redis's maxmemory.",
        ),
        (replace(OK, dead=3), "notice", "DEAD LETTERS: 3 (see `insend dead groups`)"),
        (
            replace(OK, waiting=0, workers=NO_WORKERS, unused=True),
            "notice",
            (
                "NEVER USED: no event was ever accepted, and no worker ever ran, in this INSEND_NAMESPACE. Check its "
                "name, or INSEND_REDIS_URL if events should be here."
            ),
        ),
        (
            replace(OK, waiting=0, workers=NO_WORKERS, unused=True, elsewhere=["insend", "staging"]),
            "notice",
            (
                "NEVER USED: no event was ever accepted, and no worker ever ran, in this INSEND_NAMESPACE. Check its "
                "name (workers are alive in this Redis in: insend, staging)."
            ),
        ),
        (replace(OK, spooled=3, spooled_seconds=3), "ok", "OK: 12 waiting, oldest 0.3 s"),
        (
            replace(OK, spooled=3, spooled_seconds=180, dead=3),
            "finding",
            (
                "SPOOL STUCK: 3 events of this machine not in Redis for 3 min, although it takes events: run "
                "`insend spool flush`."
            ),
        ),
        (
            replace(OK, waiting=120, oldest_waiting_seconds=600, stalled=True, dead=3, paused=[DOWN]),
            "finding",
            (
                "STALLED: 120 waiting, oldest 10 min, 2 workers alive, and none sends: see the workers' logs and "
                "restart them."
            ),
        ),
        (
            replace(OK, far_ahead=FarAhead(1, 3), paused=[DOWN]),
            "finding",
            (
                "REDIS'S CLOCK WAS SET BACK: 12 waiting, oldest 0.3 s, 3 visitors scheduled too far ahead. A worker "
                "makes them due again within a second. Run NTP where Redis runs."
            ),
        ),
        (
            replace(OK, workers=NO_WORKERS, paused=[DOWN], stalled=True),
            "finding",
            (
                "NO WORKER IS ALIVE: 12 waiting, oldest 0.3 s, nothing lost. Start a worker with this INSEND_REDIS_URL "
                "and INSEND_NAMESPACE."
            ),
        ),
        (
            replace(OK, workers=Workers(0, "web-1:4711", 180.0)),
            "finding",
            (
                "NO WORKER IS ALIVE: 12 waiting, oldest 0.3 s, nothing lost. Start a worker with this INSEND_REDIS_URL "
                "and INSEND_NAMESPACE, or restart web-1:4711 if it hangs: its last heartbeat is 3 min old."
            ),
        ),
        (
            replace(OK, refusal=Refusal(full=True, text="...")),
            "finding",
            "REDIS IS FULL: it refuses new events, 12 waiting, oldest 0.3 s. Raise Redis's maxmemory.",
        ),
        (
            replace(OK, refusal=Refusal(full=True, text="..."), workers=NO_WORKERS, full_in_seconds=0.0),
            "finding",
            (
                "REDIS IS FULL: it refuses new events, 12 waiting, oldest 0.3 s. Raise Redis's maxmemory. NO WORKER IS "
                "ALIVE: 12 waiting, oldest 0.3 s, nothing lost. Start a worker with this INSEND_REDIS_URL and "
                "INSEND_NAMESPACE."
            ),
        ),
        (
            replace(OK, workers=NO_WORKERS, full_in_seconds=1_200),
            "finding",
            (
                "NO WORKER IS ALIVE: 12 waiting, oldest 0.3 s, Redis full in ~20 min, nothing lost. Start a worker "
                "with this INSEND_REDIS_URL and INSEND_NAMESPACE. Raise Redis's maxmemory."
            ),
        ),
        (
            replace(OK, paused=[replace(DOWN, since_ms=NOW - 3 * 3_600_000)], full_in_seconds=1_200),
            "finding",
            (
                "PAUSED since 19:13 UTC (503): 12 waiting, nothing lost, next probe in 40 s, Redis full in ~20 min. It "
                "has lasted for 3 h: check INSEND_TRACKER_URL and the firewall (`insend doctor` tests the connection), "
                "or ask InSend. Raise Redis's maxmemory."
            ),
        ),
        (
            replace(OK, refusal=Refusal(full=False, text="see its log")),
            "finding",
            "REDIS REFUSES NEW EVENTS, 12 waiting, oldest 0.3 s: see its log",
        ),
        (
            replace(OK, jumps=[JUMP, JUMP], refusal=Refusal(full=True, text="...")),
            "finding",
            (
                "BOOKS JUMPED BACK at 02:11 UTC (accepted went from 1,200 to 3) and 1 time before: Redis has lost "
                "events that it had accepted (17 were waiting at the last heartbeat). Find out why; `insend status "
                "--acknowledge` ends this message."
            ),
        ),
        (
            replace(OK, balanced=False, dead=3, paused=[DOWN], jumps=[JUMP]),
            "finding",
            "BOOKS DO NOT BALANCE: run `insend audit`",
        ),
        (
            replace(OK, waiting=12_430, paused=[DOWN], full_in_seconds=21_600),
            "notice",
            (
                "PAUSED since 22:11 UTC (503): 12,430 waiting, nothing lost, next probe in 40 s, Redis full in ~6 h. "
                "Nothing to do."
            ),
        ),
        (
            replace(OK, paused=[DOWN], full_in_seconds=1_200),
            "finding",
            (
                "PAUSED since 22:11 UTC (503): 12 waiting, nothing lost, next probe in 40 s, Redis full in ~20 min. "
                "Raise Redis's maxmemory."
            ),
        ),
        (
            replace(OK, paused=[replace(DOWN, until_ms=NOW)], dead=1),
            "notice",
            "PAUSED since 22:11 UTC (503): 12 waiting, nothing lost, probing now, 1 dead letter. Nothing to do.",
        ),
        (
            replace(OK, paused=[DOWN, replace(BY_HAND, app="second")]),
            "notice",
            (
                "PAUSED since 02:11 UTC (by an operator) and 1 more app: 12 waiting, nothing lost. "
                "`insend resume second` ends it."
            ),
        ),
        (
            replace(OK, paused=[DOWN, BY_HAND, REVOKED]),
            "finding",
            (
                "PAUSED since 02:11 UTC (401: key revoked) and 2 more apps: 12 waiting, nothing lost, next probe in "
                f"40 s. {remedy('key')}"
            ),
        ),
        (
            replace(OK, paused=[replace(DOWN, reason="x" * 99)]),
            "notice",
            f"PAUSED since 22:11 UTC ({'x' * 89}…): 12 waiting, nothing lost, next probe in 40 s. Nothing to do.",
        ),
        (
            replace(OK, spooled=3, spooled_seconds=180, paused=[DOWN]),
            "finding",
            (
                "SPOOL STUCK: 3 events of this machine not in Redis for 3 min, although it takes events: run "
                "`insend spool flush`."
            ),
        ),
        (
            replace(OK, paused=[DOWN, replace(DOWN, app="second", delivered_at_ms=None)]),
            "finding",
            (
                "PAUSED since 22:11 UTC (503) and 1 more app: 12 waiting, nothing lost, next probe in 40 s. No event "
                "of this app was ever delivered: check INSEND_TRACKER_URL; `insend doctor` tests the connection."
            ),
        ),
        (
            replace(OK, paused=[replace(DOWN, since_ms=NOW - 3_599_000)]),
            "notice",
            "PAUSED since 21:13 UTC (503): 12 waiting, nothing lost, next probe in 40 s. Nothing to do.",
        ),
        (
            replace(OK, paused=[replace(DOWN, since_ms=NOW - 3 * 86_400_000)]),
            "finding",
            (
                "PAUSED since 2023-11-11 22:13 UTC (503): 12 waiting, nothing lost, next probe in 40 s. It has lasted "
                "for 3 d: check INSEND_TRACKER_URL and the firewall (`insend doctor` tests the connection), or ask "
                "InSend."
            ),
        ),
        (
            replace(OK, newer=Newer(3, 59.9, 2), spooled=3, spooled_seconds=180),
            "finding",
            (
                "SPOOL STUCK: 3 events of this machine not in Redis for 3 min, although it takes events: run "
                "`insend spool flush`."
            ),
        ),
        (
            replace(OK, newer=Newer(3, 59.9, 2), dead=1),
            "notice",
            (
                "A NEWER RELEASE WROTE EVENTS of 3 visitors that no worker can read: 12 waiting, oldest 0.3 s. Nothing "
                "to do while workers of that release are being started."
            ),
        ),
        (
            replace(OK, newer=Newer(1, 60, 2), oldest_waiting_seconds=60, full_in_seconds=1_200, paused=[DOWN]),
            "finding",
            (
                "A NEWER RELEASE WROTE EVENTS of 1 visitor that no worker can read: 12 waiting, oldest 60 s, Redis "
                "full in ~20 min, nothing lost. Start a worker of that release: its records have version 2, the "
                "workers read up to 1. Raise Redis's maxmemory."
            ),
        ),
        (
            replace(OK, newer=Newer(1, 60, 2), refusal=Refusal(full=True, text="full")),
            "finding",
            (
                "REDIS IS FULL: it refuses new events, 12 waiting, oldest 0.3 s. Raise Redis's maxmemory. A NEWER "
                "RELEASE WROTE EVENTS of 1 visitor that no worker can read: 12 waiting, oldest 0.3 s, nothing lost. "
                "Start a worker of that release: its records have version 2, the workers read up to 1."
            ),
        ),
        (
            replace(OK, failing=Failing(QUIET, 3_599)),
            "ok",
            "OK: 12 waiting, oldest 0.3 s",
        ),
        (
            replace(OK, failing=Failing(QUIET, 10_800), paused=[DOWN]),
            "finding",
            (
                "NOTHING DELIVERED for 3 h for app quiet: 12 waiting, oldest 0.3 s. `insend visitor quiet/v/1` shows "
                "the tracker's answer; `insend doctor` tests the connection."
            ),
        ),
    ],
)
def test_the_first_line_decides_for_the_operator(status: Status, level: str, line: str) -> None:
    found = verdict(status)
    assert (found.text, found.level) == (line, level)


@pytest.mark.parametrize("fault", get_args(Fault))
def test_a_remedy_sends_no_reader_to_a_command_that_shows_it(fault: Fault) -> None:
    said = remedy(fault) or ""
    assert "insend status" not in said
    assert "insend visitor" not in said


@pytest.mark.parametrize("fault", get_args(Fault))
def test_nothing_to_do_is_said_only_of_a_fault_that_ends_by_itself_while_a_worker_lives(fault: Fault) -> None:
    paused = replace(OK, paused=[replace(DOWN, fault=fault)])
    assert verdict(paused).text.endswith("Nothing to do.") is ends_by_itself(fault)
    assert (verdict(paused).level == "finding") is not ends_by_itself(fault)
    assert "Nothing to do" not in verdict(replace(paused, workers=NO_WORKERS)).text
    assert "Nothing to do" not in verdict(replace(paused, stalled=True)).text
