"""What the outbox ought to hold, in plain Python: the measure of ``test_state_machine``."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Literal

from outbox_model_books import KINDS, Kind, ModelBooks

from insend_relay.outbox.claim import Claim, Claims

QUARANTINED_FROM = 2  # a head that has crashed so many workers is sent with nothing beside it

# ready: may be claimed now; later: waits for its delay; leased: held; lapsed: its lease ran out and nobody took it yet
Standing = Literal["ready", "later", "leased", "lapsed"]


@dataclass
class Event:
    """One accepted event."""

    id: bytes
    seq: int
    lane: str
    group: str = ""
    barrier: int = 0
    guest: str = ""  # the lane of the guest who became this visitor
    kind: Kind = KINDS[0]
    letter: bytes = b""  # the id of its letter, while it is one

    @property
    def app(self) -> str:
        """Whose event it is; one that names no usable visitor is of app a."""
        return self.lane.partition("/")[0] or "a"


@dataclass
class Line:
    """A lane: its events, and where it stands."""

    events: list[Event] = field(default_factory=list)
    standing: Standing = "ready"
    token: bytes = b""
    attempts: int = 0
    abandoned: int = 0
    tried: bool = False

    @property
    def quarantined(self) -> bool:
        """Whether it stands in quarantine: two crashes of its head have been found."""
        return bool(self.events) and self.abandoned >= QUARANTINED_FROM

    def new_head(self) -> None:
        """The head has gone."""
        self.attempts = self.abandoned = 0
        self.tried = False


@dataclass
class Model:
    """Everything that a namespace ought to hold."""

    lines: dict[str, Line] = field(default_factory=lambda: defaultdict(Line))
    dead: dict[bytes, Event] = field(default_factory=dict)
    apps: set[str] = field(default_factory=set)
    once: dict[tuple[str, str], bytes] = field(default_factory=dict)
    replaying: dict[bytes, tuple[str, str]] = field(default_factory=dict)  # id -> run and lane
    runs: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    counts: Counter[str] = field(default_factory=Counter)
    books: ModelBooks = field(default_factory=ModelBooks)
    beats: Counter[str] = field(default_factory=Counter)
    operator: set[str] = field(default_factory=set)
    outage: set[str] = field(default_factory=set)
    tokens: dict[str, int] = field(default_factory=dict)
    turn: str = ""  # the process that has the turn at the quarantine
    tokens_seen: set[bytes] = field(default_factory=set)
    replayed_ids: set[bytes] = field(default_factory=set)
    first_deliveries: dict[str, int] = field(default_factory=dict)

    def holds(self, claim: Claim) -> Literal["HEAD", "ALREADY", "SUPERSEDED"]:
        """What a claim is worth now."""
        line = self.lines[claim.lane]
        if line.standing not in {"leased", "lapsed"} or line.token != claim.token:
            return "SUPERSEDED"
        return "HEAD" if line.events and line.events[0].id == claim.id else "ALREADY"

    def waits(self, lane: str) -> bool:
        """Whether a lane's head has to wait for what its guest did before it."""
        events = self.lines[lane].events
        before = self.lines[events[0].guest].events if events and events[0].barrier else []
        return bool(before) and before[0].seq <= events[0].barrier

    def count(self, what: str, number: int = 1) -> None:
        """Count in the ledger."""
        self.counts[what] += number

    def accept(self, event: Event) -> None:
        """The event is appended to its lane."""
        self.count("accepted")
        self.beats["accepted"] += 1
        self.books.move(event.app, event.kind, "accepted", "waiting")
        self.enqueue(event)

    def enqueue(self, event: Event) -> None:
        """The event stands at the tail of its lane."""
        line = self.lines[event.lane]
        if not line.events:
            line.standing = "ready"
        line.events.append(event)
        self.apps.add(event.app)

    def leave(self, lane: str, how: Literal["delivered", "returned"]) -> Event:
        """The head leaves its lane; a replay of it has found its end."""
        event = self.lines[lane].events.pop(0)
        self.lines[lane].new_head()
        self.books.move(event.app, event.kind, "waiting", "dead" if how == "returned" else how)
        self.books.ages[event.app] += how == "delivered" and event.id not in self.replaying
        self.ended(event, how)
        return event

    def ended(self, event: Event, how: str) -> None:
        """The event has left its lane; a replay that had sent it counts how."""
        if event.id in self.replaying:
            self.runs[self.replaying.pop(event.id)[0]][how] += 1

    def outstanding(self, run: str) -> int:
        """How many events of a run have not left their lanes."""
        return sum(found == run for found, _ in self.replaying.values())

    def erased(self, lane: str, *, sending: bool) -> list[Event]:
        """What an erasure takes from a lane, the last event first: all but a head that is being sent."""
        line = self.lines[lane]
        taken = line.events[int(sending) :][::-1]
        del line.events[int(sending) :]
        for event in taken:
            self.books.move(event.app, event.kind, "waiting", "discarded")
            self.ended(event, "discarded")
        if not line.events:
            line.new_head()
            line.standing = "ready"
        return taken

    def given_up(self, lane: str, last_seq: int, *, sending: bool) -> list[Event]:
        """What an operator gives up of a lane: from its front, up to a seq, but not a head that is being sent."""
        line = self.lines[lane]
        behind = line.events[int(sending) :]
        taken = list(itertools.takewhile(lambda event: event.seq <= last_seq, behind))
        line.events = line.events[: int(sending)] + behind[len(taken) :]
        for event in taken:
            self.books.move(event.app, event.kind, "waiting", "discarded")
            self.ended(event, "discarded")
        if taken and not sending:
            line.new_head()
            line.standing = "ready"
        return taken

    def put_letter(self, event: Event) -> None:
        """The event is a dead letter."""
        self.count("burials")
        event.letter, text = event.id, f"{event.lane} {self.counts['burials']}"
        while event.letter in self.dead:
            text = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
            event.letter = text[:16].encode()
        self.dead[event.letter] = event
        self.beats["dead"] += 1

    def take_letter(self, event: Event) -> None:
        """The event is no dead letter any more."""
        del self.dead[event.letter]

    def replayed(self, event: Event, run: str, *, corrected: bool = False) -> None:
        """The event of a letter is back in a lane, which is not its own any more when it was corrected."""
        self.take_letter(event)
        self.enqueue(event)
        self.books.move(event.app, event.kind, "accepted" if corrected else "dead", "waiting")
        self.beats["replayed"] += 1
        self.runs[run]["replayed"] += 1
        self.replaying[event.id] = run, event.lane
        self.replayed_ids.add(event.id)

    def delivered(self, event: Event) -> None:
        """The event was answered 200; first deliveries of a lane come in the order of acceptance."""
        self.beats["delivered"] += 1
        if event.id not in self.replayed_ids:
            assert event.seq > self.first_deliveries.get(event.lane, 0), "out of order"
            self.first_deliveries[event.lane] = event.seq

    def go_on(self, claim: Claim, following: Claim | None, *, more: bool) -> None:
        """After the head has gone: the caller holds the lane on, or it is given back, or nothing is left of it."""
        line, app = self.lines[claim.lane], claim.app
        if not line.events:
            assert following is None
            line.standing = "ready"
            return
        if not more or app in self.operator or self.waits(claim.lane):
            assert following is None
        elif app not in self.outage:  # during an outage it depends on whether the pause has just run out
            assert following is not None
        if following is None:
            line.standing = "ready"
        else:
            assert (following.id, following.token) == (line.events[0].id, claim.token)
            line.standing = "leased"

    def claimed(self, claims: Claims, room: int, order: list[str]) -> None:
        """Lanes were leased: the right ones, as many as might be, each with its head."""
        assert len({claim.lane for claim in claims}) == len(claims) <= room
        assert not any(self.deaths(claim.lane) >= QUARANTINED_FROM for claim in claims), "poison goes alone"
        assert claims.quarantine or not any(self.lines[lane].quarantined for lane in list(self.lines))
        by_app = Counter(claim.app for claim in claims)
        free = {app: self.claimable(app) for app in self.apps - self.operator}
        assert all(by_app[app] <= free.get(app, 0) for app in by_app)
        if not self.outage:
            assert [claim.lane for claim in claims] == self.next_in_line(room, order)
        for line in (self.lines[claim.lane] for claim in claims):
            assert line.standing in {"ready", "lapsed"}
        assert not any(self.waits(claim.lane) for claim in claims), "an event of the guest's goes first"
        assert len({claim.token for claim in claims}) <= 1, "the lanes of one claim share their token"
        assert not self.tokens_seen & {claim.token for claim in claims}
        for claim in claims:
            self.leased(claim)
        for app, number in by_app.items():
            if app in self.tokens:
                self.tokens[app] -= number

    def next_in_line(self, room: int, order: list[str]) -> list[str]:
        """What a claim takes while no app has an outage."""
        taken: list[str] = []
        for app in order:
            most = min(room, len(taken) + (self.claimable(app) if app in self.apps - self.operator else 0))
            for lane in filter(self.may_be_claimed, sorted(self.lines)):
                if lane.startswith(f"{app}/") and len(taken) < most:
                    taken.append(lane)
        return taken

    def claimed_quarantined(self, claim: Claim | None, process: str, *, held: bool, idle: bool) -> None:
        """A process asked for an event from quarantine; what it got, and whether it has the turn now."""
        if self.turn not in {"", process}:
            assert (claim, held) == (None, False)
            return
        lanes = [lane for lane in list(self.lines) if self.lines[lane].quarantined and self.may_be_sent(lane)]
        if not self.outage:
            assert held == bool(lanes)
            assert (claim is not None) == (idle and held)
        self.turn = process if held else ""
        if claim is None:
            return
        assert (held, idle, claim.quarantined) == (True, True, True)
        assert claim.lane in lanes
        assert claim.probe == (claim.app in self.outage)
        ordinary = [lane for lane in list(self.lines) if lane.startswith(f"{claim.app}/") and self.may_be_claimed(lane)]
        assert not claim.probe or not ordinary, "any other event is the probe"
        self.leased(claim)
        if claim.app in self.tokens:
            self.tokens[claim.app] -= 1

    def may_be_sent(self, lane: str) -> bool:
        """Whether a lane in quarantine has a head that is due, waits for no guest, and whose app may send."""
        app = lane.partition("/")[0]
        return self.is_due(lane) and app not in self.operator and self.tokens.get(app, 1) > 0

    def deaths(self, lane: str) -> int:
        """How many workers have died with a lane's head, with what a claim is about to find."""
        line = self.lines[lane]
        return line.abandoned + (line.standing == "lapsed")

    def leased(self, claim: Claim) -> None:
        """A lane was leased: with its head, and its head is marked when the last holder reported no outcome."""
        line = self.lines[claim.lane]
        assert claim.id == line.events[0].id
        if line.standing == "lapsed":
            self.found_left(claim.lane)
        tried = claim.attempts()
        assert (tried.attempts, tried.abandoned) == (line.attempts, line.abandoned)
        line.standing, line.token = "leased", claim.token
        self.tokens_seen.add(claim.token)

    def found_left(self, lane: str) -> None:
        """A lease was found whose holder never said how it ended."""
        self.lines[lane].abandoned += 1
        self.lines[lane].tried = True
        self.count("duplicates_possible")

    def give_back_token(self, app: str) -> None:
        """A lane of the small start after an outage was given back."""
        if app in self.tokens:
            self.tokens[app] += 1

    def claimable(self, app: str) -> int:
        """How many of an app's lanes a claim may take."""
        lanes = sum(self.may_be_claimed(lane) for lane in list(self.lines) if lane.startswith(f"{app}/"))
        return min(lanes, 1 if app in self.outage else self.tokens.get(app, lanes))

    def may_be_claimed(self, lane: str) -> bool:
        """Whether a lane has a head that is due, waits for no guest, and has not crashed two workers."""
        return self.is_due(lane) and self.deaths(lane) < QUARANTINED_FROM

    def is_due(self, lane: str) -> bool:
        """Whether a lane has a head that is due and waits for no guest."""
        line = self.lines[lane]
        return bool(line.events) and line.standing in {"ready", "lapsed"} and not self.waits(lane)
