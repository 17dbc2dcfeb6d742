"""Both sides of a chaos run's books: what producers were told, what the tracker received, and what does not fit."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from threading import Lock
from typing import Literal, NamedTuple, Protocol

from chaos_producer import LOGIN
from chaos_tracker import Arrival, Event

from insend_relay.outbox.connection import connect
from insend_relay.outbox.errors import OutboxError
from insend_relay.outbox.store import Outbox

CALL_MS = 250.0  # what a call waits for Redis
AROUND_SECONDS = 30.0  # how long before a person's first call a fault may have to do with it


@dataclass
class Told:
    """What the producers wrote down.

    Attributes:
        kept: The events that a call said to have kept, with their ids.
        sure: Those whose receipt said that they are confirmed.
        at: When a call said so, monotonic seconds.
        refused: Those that it said not to have kept.
        spooled: How many of the kept ones went to the spool.
        slowest_ms: The slowest call.
        slowest: Its line.
        away_ms: How long each call took that went to the spool at once, because Redis was known to be away.
        lines: Each person's lines.
    """

    kept: dict[Event, str] = field(default_factory=dict)
    sure: set[Event] = field(default_factory=set)
    at: dict[Event, float] = field(default_factory=dict)
    refused: set[Event] = field(default_factory=set)
    spooled: int = 0
    slowest_ms: float = 0.0
    slowest: str = ""
    away_ms: list[float] = field(default_factory=list)
    lines: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def in_redis(self) -> int:
        """How many events were kept by Redis when they were sent."""
        return len(self.kept) - self.spooled

    def take(self, line: str) -> None:
        """Take in one line; a torn one says nothing."""
        parts = line.split()
        if len(parts) > 2:
            self.lines[parts[1]].append(line)
        if parts[:1] != ["got"] or len(parts) != 8:
            return
        event, where, event_id = Event(parts[1], int(parts[2])), parts[3], parts[4]
        if float(parts[6]) > self.slowest_ms:
            self.slowest_ms, self.slowest = float(parts[6]), line
        if where == "spool" and float(parts[6]) < CALL_MS:
            self.away_ms.append(float(parts[6]))
        if where in {"redis", "spool"}:
            self.kept[event] = event_id
            self.at[event] = float(parts[7])
            if parts[5] == "sure":
                self.sure.add(event)
            self.spooled += where == "spool"
        elif where == "refused":
            self.refused.add(event)

    @property
    def away_p50_p99_ms(self) -> tuple[float, float]:
        """Of ``away_ms``: the median, and the slowest but one in a hundred."""
        cuts = quantiles(self.away_ms, n=100) if len(self.away_ms) > 1 else [0.0] * 99
        return cuts[49], cuts[98]


class Logs:
    """The producers' logs, read on as they grow.

    Args:
        folder: Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.told = Told()
        self._folder = folder
        self._read: Counter[Path] = Counter()
        self._lock = Lock()

    def read(self) -> Told:
        """Everything up to now, but for a line that is not whole yet."""
        with self._lock:
            for path in sorted(self._folder.glob("told-*")):
                with path.open("rb") as log:
                    log.seek(self._read[path])
                    whole = log.read().rpartition(b"\n")[0]
                self._read[path] += len(whole) + bool(whole)
                for line in whole.decode().splitlines():
                    self.told.take(line)
        return self.told


class Witness:
    """Whether an event that arrives again has been marked as doubtful by then: asked past all proxies.

    Args:
        url: Redis's.
        logs: Where the events' ids are found.
    """

    def __init__(self, url: str, logs: Logs) -> None:
        self._logs = logs
        self.ask(url)

    def ask(self, url: str) -> None:
        """Ask this Redis from now on."""
        self._outbox = Outbox(connect(url, timeout_seconds=0.3))

    def __call__(self, event: Event) -> bool | None:
        """None when nobody can say: Redis is away, or the call that brought the event never came back."""
        event_id = self._logs.read().kept.get(event)
        if event_id is None:
            return None
        try:
            return self._outbox.read("ZSCORE", self._outbox.keys.doubtful, bytes.fromhex(event_id)) is not None
        except OutboxError:
            return None

    def close(self) -> None:
        """Hang up."""
        self._outbox.redis.close()  # type: ignore[attr-defined]  # it is a client of redis-py


class Wrong(NamedTuple):
    """What must not be, of one event.

    Attributes:
        kind: Which of the promises is broken.
        event: Whose.
    """

    kind: Literal["lost", "came although it was refused", "out of order", "unmarked"]
    event: Event


def what_is_wrong(told: Told, arrivals: list[Arrival], dead: set[str], doubtful: set[str]) -> list[Wrong]:
    """Every event that was lost, came although it was refused, out of order, or twice without a mark."""
    accepted = Counter(arrival.event for arrival in arrivals if arrival.accepted)
    wrong = [Wrong("lost", event) for event, id_ in told.kept.items() if not accepted[event] and id_ not in dead]
    wrong += [Wrong("came although it was refused", event) for event in told.refused if accepted[event]]
    wrong += out_of_order(arrivals, {event.person for event in told.refused if event.number == LOGIN})
    unmarked = {arrival.event for arrival in arrivals if arrival.marked is False}
    asked = {arrival.event for arrival in arrivals if arrival.marked is not None}
    unmarked |= {
        event
        for event, times in accepted.items()
        if times > 1 and event not in asked and event in told.kept and told.kept[event] not in doubtful
    }
    return wrong + [Wrong("unmarked", event) for event in sorted(unmarked)]


class Forgetting(Protocol):
    """A Redis that may lose its last writes: whether such a thing may be its doing."""

    def __call__(self, wrong: Wrong, told: Told) -> bool:
        """Whether it may."""


def life(event: Event, told: Told, arrivals: list[Arrival], faults: list[tuple[float, str]]) -> str:
    """What is known of an event's person: each call, each arrival, and the faults of that time."""
    calls = told.lines.get(event.person, [])
    mine = [arrival for arrival in arrivals if arrival.event.person == event.person]
    moments = [*(float(call.rpartition(" ")[2]) for call in calls), *(arrival.at for arrival in mine)]
    first, last = (min(moments) - AROUND_SECONDS, max(moments)) if moments else (0.0, 0.0)
    around = [f"{at:.2f} {name}" for at, name in faults if first <= at <= last]
    return f"told {calls}; arrivals {[f'#{arrival.event.number} {arrival}' for arrival in mine]}; faults {around}"


def out_of_order(arrivals: list[Arrival], two: Container[str] = ()) -> list[Wrong]:
    """First arrivals whose person's later event had arrived before them.

    Args:
        arrivals: All, in order.
        two: Who are two to everybody: no call brought in the event that says which guest has become the visitor.
    """
    newest: dict[tuple[str, bool], int] = {}
    seen: set[Event] = set()
    wrong = []
    for event in (arrival.event for arrival in arrivals):
        whose = event.person, event.person in two and event.number > LOGIN
        if event not in seen and event.number < newest.get(whose, -1):
            wrong.append(Wrong("out of order", event))
        seen.add(event)
        newest[whose] = max(event.number, newest.get(whose, -1))
    return wrong
