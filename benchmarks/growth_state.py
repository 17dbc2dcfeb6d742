"""An outbox filled by its own scripts, many calls in a packet: it holds what producers and workers would leave."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent / "peers"))
from peer_event import APP_KEY, cart_payload, people

from insend_relay.operations.books import events_waiting
from insend_relay.operations.status import read_status
from insend_relay.outbox.breaker import BreakerLimits
from insend_relay.outbox.claim import Claim
from insend_relay.outbox.connection import run_together
from insend_relay.outbox.entry import Entry, InvalidEntry
from insend_relay.outbox.failed_attempt import FailedAttempt
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.record import new_id
from insend_relay.outbox.scripts import Call, Calls
from insend_relay.outbox.store import Outbox
from insend_relay.outbox.trying import Tried

PACKET = 500
HOUR_MS = 3_600_000
LOOKS = 200
CLAIMED = 32  # lanes a claim


class State:
    """A Redis that is being filled, and looked at.

    Args:
        client: Its client.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._outbox = Outbox(client)
        self._calls = Calls(self._outbox.keys)

    def _send(self, calls: Iterable[Call]) -> None:
        """Run scripts, many in a packet."""
        left = iter(calls)
        while packet := list(islice(left, PACKET)):
            for source in {call.script.source for call in packet}:
                self._client.script_load(source)
            replies = run_together(self._client, *(call.by_hash for call in packet))
            for reply in replies:
                if isinstance(reply, Exception):
                    raise SystemExit(f"Redis could not be filled: {reply}")

    def wait(self, events: int, lane: int = 1, name: str = "v") -> None:
        """Have so many events wait, ``lane`` of each visitor."""
        self._send(self._append(person.replace("v", name)) for person in people(events, lane))

    def _append(self, person: str) -> Call:
        return _entry(person).call(self._calls)

    def fail(self, lanes: int) -> None:
        """Have so many lanes wait for an hour, after an attempt that failed."""
        self.wait(lanes, name="r")
        now_ms = int(time.time() * 1000)
        while claims := self._outbox.claim("bench", PACKET, lease_ms=HOUR_MS):
            self._send(_failed(claim, now_ms).call(self._calls, claim) for claim in claims)

    def bury(self, letters: int) -> None:
        """Have so many dead letters."""
        lane, payload = Lane(APP_KEY, "v", "dead"), cart_payload("dead").encode()
        self._send(
            InvalidEntry(APP_KEY, new_id(), lane, "update_cart", payload, "url: must be").call(self._calls)
            for _ in range(letters)
        )

    @property
    def ready(self) -> int:
        """Lanes that may be claimed now."""
        return int(self._outbox.read("ZCOUNT", self._outbox.keys.due(APP_KEY), "-inf", int(time.time() * 1000)))

    @property
    def waiting(self) -> int:
        """Events in their lanes."""
        return events_waiting(self._outbox)

    @property
    def megabytes(self) -> float:
        """What Redis holds."""
        return int(self._client.info("memory")["used_memory"]) / 1e6

    def look(self) -> dict[str, float | None]:
        """How long things take now, medians in ms; a claim only where enough lanes are ready."""
        claims = self.ready > CLAIMED
        return {
            "append_ms": _median_ms(lambda at: self._outbox.enter(_entry(f"w{at:06}"))),
            "claim_ms": statistics.median(self._claim_ms() for _ in range(LOOKS)) if claims else None,
            "status_ms": _median_ms(lambda _: read_status(self._outbox)),
        }

    def _claim_ms(self) -> float:
        start = time.perf_counter()
        claims = self._outbox.claim("bench", CLAIMED, lease_ms=HOUR_MS)
        taken_ms = (time.perf_counter() - start) * 1000
        if len(claims) != CLAIMED:
            raise SystemExit(f"{len(claims)} lanes were claimed instead of {CLAIMED}")
        self._send(
            self._calls.call("release", lane=claim.lane, token=claim.token, id=claim.id, duplicate="")
            for claim in claims
        )
        return taken_ms


def _failed(claim: Claim, now_ms: int) -> FailedAttempt:
    """An attempt that counts, however many fail: it is no outage."""
    tried = Tried(claim.id, 1, 0, now_ms, now_ms, "answered 500: no")
    many = 1_000_000_000
    return FailedAttempt("server", "500: no", tried, HOUR_MS, limits=BreakerLimits(unreachable=many, lanes=many))


def _entry(person: str) -> Entry:
    return Entry(Lane(APP_KEY, "v", person), new_id(), cart_payload(person).encode())


def _median_ms(call: Callable[[int], object]) -> float:
    taken = []
    for at in range(LOOKS):
        start = time.perf_counter()
        call(at)
        taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken)
