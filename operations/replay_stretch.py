"""One stretch of a replay run: letters go back to their lanes, app by app, until none is left or it is stopped."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice

from insend_relay.operations.dead import BATCH, DeadLetters, Filter, Letter
from insend_relay.operations.dead_index import START, Position
from insend_relay.operations.pace import Pace
from insend_relay.operations.status import read_clock
from insend_relay.outbox.replies import pairs, scan
from insend_relay.outbox.scripts import Scripts
from insend_relay.outbox.store import Outbox


class Stretch:
    """Sends letters of a run.

    A batch of the app whose cursor is furthest behind is sent, then the next. An app that is paused gets nothing: its
    cursor waits, and the others go on.

    Args:
        outbox: The outbox.
        run_id: The run, for its counts.
        meant: Which letters are meant. ``last_burial`` leaves out those that died after the run's start.
        cursors: App -> the place up to which all letters of the app are done with.
        room: How many events of the run may wait in their lanes at the same time; those that wait in other apps which
            are paused do not count.
        pace: When the next letter may go, on ``time.monotonic``.
        stop: True ends the stretch; asked before every letter.
        wait: Sleeps for so many seconds, or for less; 0.05 s or so when it is given none.

    Attributes:
        cursors: As they are now.
        paused: The apps that have letters left and are paused.
    """

    def __init__(
        self,
        outbox: Outbox,
        run_id: str,
        meant: Filter,
        cursors: dict[str, Position],
        *,
        room: int,
        pace: Pace,
        stop: Callable[[], bool],
        wait: Callable[..., None],
    ) -> None:
        self.cursors = cursors
        self.paused: set[str] = set()
        self._outbox = outbox
        self._run_id = run_id
        self._meant = meant
        self._room = room
        self._pace = pace
        self._stop = stop
        self._wait = wait
        self._letters = DeadLetters(outbox)
        self._scripts = Scripts(outbox.redis, outbox.keys)
        self._held: Counter[str] = Counter()  # app that is paused -> how many events of the run wait in it

    def go(self) -> bool:
        """Send until no letter is left that may go; False when stopped before."""
        left = self._apps()
        while left:
            if self._stop():
                return False
            self.paused = self._paused(self.paused)
            ready = left - self.paused
            if not ready:
                self._wait()
            elif self._send_batch(app := min(ready, key=lambda app: (self._cursor(app), app))):
                left.remove(app)
        return True

    def _apps(self) -> set[str]:
        """The apps that may have letters of the run."""
        if self._meant.id is not None:
            return {letter.app for letter in self._letters.scan(Filter(id=self._meant.id))}
        return {self._meant.app} if self._meant.app is not None else set(self._letters.apps())

    def _cursor(self, app: str) -> Position:
        return self.cursors.get(app, START)

    def _send_batch(self, app: str) -> bool:
        """Send one batch of an app's letters; True when the app has no more."""
        seen = 0
        here = Filter(id=self._meant.id, app=app)  # what is not meant must not hold up a stop either
        for letter in islice(self._letters.scan(here, behind=self._cursor(app)), BATCH):
            if self._stop() or not self._send(letter):
                return False
            self.cursors[app] = letter.position
            seen += 1
        return seen < BATCH

    def _send(self, letter: Letter) -> bool:
        """Send a letter when its turn has come, if it is meant; False when stopped before, or its app is paused."""
        if not (letter.replayable and self._meant.matches(letter)):
            return True
        while not self._stop():
            if due_in := self._pace.due_in(time.monotonic()):
                self._wait(due_in)
                continue
            status = self._replay(letter)
            if status == b"REPLAYED":
                self._pace.took(time.monotonic())
            if status == b"PAUSED":
                self.paused.add(letter.app)
                return False
            if status != b"FULL":  # it went, or it is no letter any more
                return True
            self._recount_held()
            self._wait()
        return False

    def _replay(self, letter: Letter) -> bytes:
        limit = self._room + self._held.total() - self._held[letter.app]
        status: bytes
        (status,) = self._scripts.run("replay", id=letter.id.bytes, burial=letter.burial, run=self._run_id, limit=limit)
        return status

    def _recount_held(self) -> None:
        """Count the events of the run that wait in apps which are paused."""
        self._held.clear()
        if not self._outbox.read("ZCOUNT", self._outbox.keys.apps, f"({read_clock(self._outbox)}", "+inf"):
            return
        waiting: Counter[str] = Counter()
        for batch in scan(self._outbox.redis, "HSCAN", self._outbox.keys.replaying):
            for _, entry in pairs(batch):
                run, _, lane = entry.decode(errors="replace").partition(" ")
                waiting[lane.partition("/")[0]] += run == self._run_id
        paused = self._paused(waiting)
        self._held.update({app: count for app, count in waiting.items() if app in paused})

    def _paused(self, apps: Iterable[str]) -> set[str]:
        """Those of the apps from which no event may be claimed now."""
        if not (names := sorted(apps)):
            return set()
        scores = self._outbox.read("ZMSCORE", self._outbox.keys.apps, *names)
        now = read_clock(self._outbox)
        return {app for app, score in zip(names, scores, strict=True) if score is not None and float(score) > now}
