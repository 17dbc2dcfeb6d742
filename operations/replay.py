"""Replay: dead letters go back to the tails of their lanes, in the order of acceptance, behind live traffic.

A run is stored under its id, so that another process can go on with it. It takes the letters that were dead when it
started: one that dies again is counted as returned, and left. Each event that a run has sent back is counted once more
when it leaves its lane (``lua/shared/replays.lua``). A run that is killed loses nothing: an event is either a dead
letter or waits in its lane.
"""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace

from insend_relay.operations.dead import ALL, DeadLetters, Filter
from insend_relay.operations.dead_index import Position
from insend_relay.operations.pace import Pace
from insend_relay.operations.replay_stretch import Stretch
from insend_relay.operations.status import read_clock
from insend_relay.outbox.errors import NotFound
from insend_relay.outbox.replies import pairs, scan
from insend_relay.outbox.scripts import Scripts
from insend_relay.outbox.settings import MAX_TURN_SECONDS
from insend_relay.outbox.store import Outbox

KEPT_SECONDS = 30 * 86_400  # how long a run's counts can be looked up, and the run gone on with
MIN_ROOM = 10  # so many events of a run may wait in their lanes, or
ROOM_SECONDS = 2  # what goes in this time, if that is more
PROGRESS_EVERY_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        total: The letters that were meant when it started.
        replayed: Those that went back to their lanes.
        delivered: Those of them that were answered 200.
        returned: Those of them that are dead letters again.
        discarded: Those of them that an operator discarded while they waited, or that belonged to an erased person.
        outstanding: Those of them that still wait.
        skipped: The letters that cannot be sent as they are: the tracker would refuse them again, so they stay.
        finished: True when every letter that could go has gone.
        paused: The apps whose pause keeps letters back.
    """

    total: int
    replayed: int
    delivered: int
    returned: int
    discarded: int
    outstanding: int
    skipped: int
    finished: bool = False
    paused: tuple[str, ...] = ()


class Replay:
    """One run; made by ``start`` or ``resume``.

    Attributes:
        id: The run's name.
        filter: Which letters are meant.
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
            skipped += not letter.replayable
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

        Args:
            per_second: The pace. At most 10 events, or what goes in 2 s if that is more, wait in their lanes at the
                same time.
            stop: Asked often; True ends the run where it is, to be resumed.
            progress: Told how far it is, a few times a second and at the end.
            budget_seconds: After so long it stops by itself, to be resumed.
            step_seconds: How often it looks again while it has to wait.
        """
        self._outbox.read("EXPIRE", self._key, KEPT_SECONDS)
        give_up = math.inf if budget_seconds is None else time.monotonic() + budget_seconds
        told_at = time.monotonic()

        def wait(seconds: float = math.inf) -> None:
            nonlocal told_at
            time.sleep(min(seconds, step_seconds))
            if time.monotonic() - told_at > PROGRESS_EVERY_SECONDS:
                progress(replace(self.progress(), paused=tuple(sorted(stretch.paused))))
                told_at = time.monotonic()

        stretch = Stretch(
            self._outbox,
            self.id,
            self.filter,
            self._cursors(),
            room=max(MIN_ROOM, int(ROOM_SECONDS * per_second)),
            pace=self._pace(per_second),
            stop=lambda: stop() or time.monotonic() >= give_up,
            wait=wait,
        )
        finished = stretch.go()
        self._scripts.run("leave_replay", run=self.id, cursors=_written(stretch.cursors), finished=int(finished))
        last = replace(self.progress(), finished=finished, paused=tuple(sorted(stretch.paused)))
        progress(last)
        return last

    def _cursors(self) -> dict[str, Position]:
        """App -> the place up to which all its letters are done with, as it was stored last."""
        cursors = json.loads(self._outbox.read("HGET", self._key, "cursors") or "{}")
        return {app: Position(seq, bytes.fromhex(done)) for app, (seq, done) in cursors.items()}

    def _pace(self, per_second: float) -> Pace:
        """The pace, which goes on from the last event that was sent: by this process or, a turn ago, by another."""
        sent_at_ms = self._outbox.read("HGET", self._key, "sent_at")
        if sent_at_ms is None:
            return Pace(per_second)
        seconds_ago = max(0, read_clock(self._outbox) - int(sent_at_ms)) / 1000  # that clock may be set back
        return Pace(per_second, time.monotonic() - seconds_ago + 1 / per_second)

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
            turn: What the message named; 0 takes any turn.
        """
        status, *following = self._scripts.run("take_turn", run=self.id, turn=turn, patience_ms=MAX_TURN_SECONDS * 1000)
        return int(following[0]) if status == b"TAKEN" else None

    def progress(self) -> Progress:
        """The counts as they are now."""
        names = ("replayed", "delivered", "returned", "discarded", "skipped")
        counts = [int(count or 0) for count in self._outbox.read("HMGET", self._key, *names)]
        replayed, delivered, returned, discarded, skipped = counts
        outstanding = replayed - delivered - returned - discarded
        return Progress(self.total, replayed, delivered, returned, discarded, outstanding, skipped)


def _written(cursors: Mapping[str, Position]) -> str:
    """Cursors as ``_cursors`` reads them: app -> seq and letter's id in hex."""
    return json.dumps({app: (done.seq, done.id.hex()) for app, done in cursors.items()})


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
