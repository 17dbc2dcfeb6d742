"""Replay: dead letters go back to the tails of their lanes, in the order of acceptance, behind live traffic.

A run is stored under its id, so that it can be stopped and gone on with elsewhere. It takes the letters that had died
when it started: one that comes back and dies again is counted as returned, and left. At most one replayed event of a
visitor is under way at a time (``replay.lua`` sees to it), so a visitor's letters arrive in their order. A run that is
killed loses nothing: a letter is either still dead or waiting in its lane.
"""

from __future__ import annotations

import json
import math
import time
import uuid
from collections import Counter
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, replace
from enum import Enum
from itertools import islice

from insend_relay.operations.dead import ALL, INVALID, DeadLetters, Filter, Letter
from insend_relay.operations.status import read_clock, read_paused
from insend_relay.outbox.errors import NotFound
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.replies import pairs, scan
from insend_relay.outbox.scripts import Scripts
from insend_relay.outbox.settings import MAX_TURN_SECONDS
from insend_relay.outbox.store import Outbox

KEPT_SECONDS = 30 * 86_400  # how long a run's counts can be looked up, and the run gone on with
LEAST_UNDER_WAY = 10
WARNED_OF = 10_000  # warnings() reads this many letters at most
PROGRESS_EVERY_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        total: The letters that were meant when it started.
        replayed: Those that went back to their lanes.
        delivered: Those of them that were answered 200.
        returned: Those of them that are dead letters again.
        outstanding: Those of them that are still waiting.
        skipped: Those that break the rules: the tracker would refuse them again, so they stay.
        finished: True when every letter that could go has gone.
        paused: The apps whose pause keeps letters back.
    """

    total: int
    replayed: int
    delivered: int
    returned: int
    outstanding: int
    skipped: int
    finished: bool = False
    paused: tuple[str, ...] = ()


class Pace:
    """A steady pace: what a late timer lost is made up for, a stall is not, so there is never a burst.

    Args:
        per_second: Events per second.
    """

    def __init__(self, per_second: float) -> None:
        self._interval = 1 / per_second
        self._next = 0.0

    def due_in(self, now: float) -> float:
        """For how many seconds to wait; 0 when the next may go."""
        return max(0.0, self._next - now)

    def took(self, now: float) -> None:
        """One has gone."""
        stalled = now - self._next > self._interval
        self._next = (now if stalled else self._next) + self._interval


class Replay:
    """One run; made by ``start`` or ``resume``.

    Attributes:
        id: The run's name.
        filter: Which letters it means.
        total: How many there were when it started.
    """

    def __init__(self, outbox: Outbox, id: str, filter: Filter, *, total: int) -> None:
        self.id = id
        self.filter = filter
        self.total = total
        self._outbox = outbox
        self._scripts = Scripts(outbox.redis, outbox.keys)
        self._key = outbox.keys.replay(id)

    @classmethod
    def start(cls, outbox: Outbox, filter: Filter = ALL) -> Replay:
        """Begin a run over the letters that are meant and dead by now; nothing is sent before ``run``."""
        letters = DeadLetters(outbox)
        meant = filter
        if meant.last_burial is None:
            meant = replace(filter, last_burial=letters.last_burial())
        total = skipped = 0
        for letter in letters.scan(meant):
            total += 1
            skipped += letter.reason == INVALID
        run_id = uuid.uuid4().hex
        Scripts(outbox.redis, outbox.keys).run(
            "begin_replay",
            run=run_id,
            filter=json.dumps(meant.as_dict()),
            total=total,
            skipped=skipped,
            kept_ms=KEPT_SECONDS * 1000,
        )
        return cls(outbox, run_id, meant, total=total)

    @classmethod
    def resume(cls, outbox: Outbox, run_id: str) -> Replay:
        """Go on with a run that was stopped; NotFound when there is none of that id."""
        stored = outbox.read("HMGET", outbox.keys.replay(run_id), "filter", "total")
        if None in stored:
            raise NotFound(f"no replay {run_id}: it never was, or ended more than 30 days ago")
        filter_json, total = stored
        return cls(outbox, run_id, Filter.from_dict(json.loads(filter_json)), total=int(total))

    def run(
        self,
        *,
        per_second: float,
        stop: Callable[[], bool] = lambda: False,
        progress: Callable[[Progress], None] = lambda _: None,
        budget_seconds: float | None = None,
        step_seconds: float = 0.05,
    ) -> Progress:
        """Send letters back until none is left that could go; it does not wait for the last to arrive.

        An app's pause holds up its own letters only: the others go first, then it is waited for.

        Args:
            per_second: The pace.
            stop: Asked often; True ends the run where it is, to be resumed.
            progress: Told how far it is, a few times a second and at the end.
            budget_seconds: After so long it stops by itself, to be resumed.
            step_seconds: How often it looks again while it has to wait.
        """
        self._outbox.read("EXPIRE", self._key, KEPT_SECONDS)
        give_up = math.inf if budget_seconds is None else time.monotonic() + budget_seconds
        told_at = time.monotonic()

        def idle(seconds: float, paused: Iterable[str]) -> None:
            nonlocal told_at
            time.sleep(seconds)
            if time.monotonic() - told_at > PROGRESS_EVERY_SECONDS:
                progress(replace(self.progress(), paused=tuple(paused)))
                told_at = time.monotonic()

        passes = _Passes(
            self._outbox,
            self.id,
            self.filter,
            most=max(LEAST_UNDER_WAY, int(2 * per_second)),
            pace=Pace(per_second),
            stop=lambda: stop() or time.monotonic() >= give_up,
            idle=idle,
            step_seconds=step_seconds,
        )
        finished = passes.go(int(self._outbox.read("HGET", self._key, "reached") or 0))
        self._scripts.run("leave_replay", run=self.id, reached=passes.reached, finished=int(finished))
        last = replace(self.progress(), finished=finished, paused=tuple(passes.held))
        progress(last)
        return last

    def hand_over(self) -> None:
        """Let the workers go on with it: one of their pumps sends its message within a second."""
        self._scripts.run("hand_over", run=self.id)

    def take_back(self) -> None:
        """Let the workers go on with it no more."""
        self.take_turn(0)
        self._outbox.read("ZREM", self._outbox.keys.replays, self.id)

    def take_turn(self, turn: int) -> int | None:
        """For a worker: the turn that the run's next message has to name; None when this one's is over.

        Args:
            turn: What the message named; 0 is anybody's.
        """
        status, *following = self._scripts.run("take_turn", run=self.id, turn=turn, patience_ms=MAX_TURN_SECONDS * 1000)
        return int(following[0]) if status == b"TAKEN" else None

    def progress(self) -> Progress:
        """The counts as they are now."""
        names = ("replayed", "delivered", "returned", "skipped")
        counts = [int(count or 0) for count in self._outbox.read("HMGET", self._key, *names)]
        replayed, delivered, returned, skipped = counts
        return Progress(self.total, replayed, delivered, returned, replayed - delivered - returned, skipped)

    def settled(self) -> bool:
        """Whether every event that this run sent back has been delivered or is dead again."""
        return self.progress().outstanding == 0


def forget_filters(outbox: Outbox, uids: Container[str]) -> None:
    """Delete the filters that name one of these uids as their visitor; such a run ends where it is."""
    for batch in scan(outbox.redis, "SCAN", match=f"{outbox.keys.replay('')}*"):
        for key in batch:
            stored = outbox.read("HGET", key, "filter")
            if stored is not None and json.loads(stored).get("visitor") in uids:
                outbox.read("HDEL", key, "filter")


def overdue(outbox: Outbox) -> tuple[str, int] | None:
    """For a pump: a run that was handed over and that no message leads on, and its next turn; None without one."""
    for run_id, from_ms in pairs(outbox.read("ZRANGE", outbox.keys.replays, 0, 0, "WITHSCORES")):
        if float(from_ms) <= read_clock(outbox):
            try:
                turn = Replay.resume(outbox, run_id.decode()).take_turn(0)
            except NotFound:
                outbox.read("ZREM", outbox.keys.replays, run_id)
            else:
                return (run_id.decode(), turn) if turn else None
    return None


def replay(
    outbox: Outbox,
    filter: Filter = ALL,
    *,
    per_second: float = 50.0,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    """Replay the letters that are meant, in one call; see ``Replay.run``."""
    return Replay.start(outbox, filter).run(per_second=per_second, stop=stop, progress=progress)


def warnings(outbox: Outbox, filter: Filter = ALL) -> list[str]:
    """What an operator should know before replaying these letters: a sentence each.

    Looks at the oldest 10,000 dead letters of the filter's app and visitor.
    """
    carts = purchases = void = 0
    bought: dict[Lane | None, bool] = {}  # lanes with a dead purchase: whether all of those are meant
    around = Filter(app=filter.app, visitor=filter.visitor)
    for letter in islice(DeadLetters(outbox).scan(around), WARNED_OF):
        meant = filter.matches(letter) and letter.reason != INVALID
        if letter.type == "purchase":
            purchases += meant
            bought[letter.lane] = meant and bought.get(letter.lane, True)
        elif meant:
            carts += letter.type == "update_cart"
            void += letter.type == "order_update" and not bought.get(letter.lane, True)
    said = []
    if carts:
        said.append(
            f"{carts} update_cart: each carries a whole cart, so an old one may overwrite a newer state at the tracker"
        )
    if purchases:
        said.append(
            f"{purchases} purchase: an order_update that was delivered after one of them died was void, because the "
            "tracker did not know the order yet; send it once more when the purchase has arrived"
        )
    if void:
        said.append(
            f"{void} order_update without the purchase before it, which is dead too: the tracker ignores a change to "
            "an order that it does not know; replay that purchase first"
        )
    return said


class _Try(Enum):
    """What became of a letter in a pass."""

    DONE = "sent, or no longer there to be sent"
    LEFT = "cannot go yet"
    STOPPED = "the run was stopped"


class _Passes:
    """The passes of one ``Replay.run``: each goes over the letters in order, and comes again for those it left.

    Attributes:
        reached: All letters before this seq are done with.
        held: The apps of which the last pass left letters because of a pause.
    """

    def __init__(
        self,
        outbox: Outbox,
        run_id: str,
        meant: Filter,
        *,
        most: int,
        pace: Pace,
        stop: Callable[[], bool],
        idle: Callable[[float, Iterable[str]], None],
        step_seconds: float,
    ) -> None:
        self.reached = 0
        self.held: set[str] = set()
        self._busy: set[Lane] = set()  # lanes of which an earlier letter is under way
        self._left: set[Lane] = set()  # all lanes that this pass left: their later letters must not overtake
        self._outbox = outbox
        self._run_id = run_id
        self._meant = meant
        self._most = most
        self._pace = pace
        self._stop = stop
        self._idle = idle
        self._step = step_seconds
        self._replaying = outbox.keys.replaying
        self._scripts = Scripts(outbox.redis, outbox.keys)

    def go(self, from_seq: int) -> bool:
        """Pass over the letters until none was left; False when stopped before."""
        self.reached = from_seq
        while self._one_pass():
            if not self._left:
                return True
            if not self._wait_for_a_lane():
                return False
        return False

    def _one_pass(self) -> bool:
        """Once over the letters; False when stopped."""
        self._busy.clear()
        self._left.clear()
        self.held.clear()
        left_from = None
        for letter in DeadLetters(self._outbox).scan(Filter(id=self._meant.id), from_seq=self.reached):
            done = _Try.STOPPED if self._stop() else _Try.DONE
            if done is _Try.DONE and letter.lane and letter.reason != INVALID and self._meant.matches(letter):
                done = self._try(letter, letter.lane)
            if done is not _Try.DONE and left_from is None:
                left_from = letter.seq
            self.reached = letter.seq + 1 if left_from is None else left_from
            if done is _Try.STOPPED:
                return False
        return True

    def _try(self, letter: Letter, lane: Lane) -> _Try:
        if lane in self._left:
            return _Try.LEFT
        if not self._wait_for_room(lane.app):
            return _Try.STOPPED
        if lane.app in self.held:
            self._left.add(lane)
            return _Try.LEFT
        status = self._scripts.run("replay", id=letter.id.bytes, run=self._run_id)[0]
        if status == b"BUSY":
            self._left.add(lane)
            self._busy.add(lane)
            return _Try.LEFT
        if status == b"REPLAYED":
            self._pace.took(time.monotonic())
        return _Try.DONE

    def _wait_for_room(self, app: str) -> bool:
        """Wait until one more may go, or add the app to ``held`` when its pause keeps it back; False when stopped."""
        while not self._stop():
            wait = self._pace.due_in(time.monotonic())
            if not wait:
                if self._room(app):
                    return True
                if app in self.held:
                    return True
                wait = self._step
            self._idle(min(wait, self._step), self.held)
        return False

    def _room(self, app: str) -> bool:
        """Whether one more may be under way; what waits in paused apps takes no room from the others."""
        if int(self._outbox.read("HLEN", self._replaying)) < self._most:
            return True
        under_way = Counter(lane.decode().partition("/")[0] for lane in self._outbox.read("HKEYS", self._replaying))
        paused = {name for name in {*under_way, app} if read_paused(self._outbox, name)}
        if app in paused:
            self.held.add(app)
            return False
        return sum(count for name, count in under_way.items() if name not in paused) < self._most

    def _wait_for_a_lane(self) -> bool:
        """Wait until a lane that was left can go on; False when stopped."""
        while not self._stop():
            busy = [str(lane) for lane in self._busy]
            if busy and None in self._outbox.read("HMGET", self._replaying, *busy):
                return True
            if any(self._room(app) for app in tuple(self.held)):
                return True
            self._idle(self._step, self.held)
        return False
