"""How many POSTs a process has under way: as many as the tracker bears, found as TCP finds what a network bears.

It starts small and doubles with each round of answers (slow start). An answer by which the tracker says that it has too
much to do (429, 503), or none that is whole, halves it, once for all that were under way; from there it rises by one a
round (additive increase, multiplicative decrease; RFC 5681). A tracker that takes nothing at all is the outage guard's
business: without another answer in between nothing is halved twice.

It does not wait to be told, though: where answers take longer the more are under way, more are of no use, and a weak
tracker must not be overrun. So it rises only by answers that come about as quickly as with few under way, as TCP Vegas
does (Brakmo and Peterson, 1995). How quickly that is it finds out anew every minute, unless nothing holds it down: it
falls to an eighth, and rises again in three rounds; so BBR looks for a path's own delay. All processes on all machines
do so at the same moment, or each would take the others' queue for the tracker's own slowness. That fall also makes good
what a short trouble has done: from then on it doubles up to one and a half times what it was. And after a quiet time it
starts small again.

A tracker, a proxy or a firewall may also limit the connections of an address. When no further connection can be opened
while others are open, as many as are open is the highest limit for ten seconds; then one more is tried.

So a strong tracker gets the most within a second, a weak one is not overrun again and again, and nobody has to tune.
docs/benchmarks.md has the default beside the best fixed number.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

FIRST = 16
FALLS_TO = 1 / 8
REGAINS = 1.5
ANEW_SECONDS = 60.0  # between two looks whether to fall; the same for all, whatever they have found
RISES = 1.5  # and where it rises so much in between it goes on
QUICK_SECONDS = 0.1  # what an answer may take in any case: the process itself takes some of it
QUICK_TIMES = 1.5  # or so many times what it takes with few under way
CEILING_SECONDS = 10.0  # how long the limit stays at the number of open connections when no further one can be opened
ROUND_SHARE = 3 / 4  # of its calls must have ended: so a few that take very long do not hold it up


class Call(NamedTuple):
    """A POST under way.

    Attributes:
        number: How many had begun with it.
        at: When it began, by the clock.
    """

    number: int
    at: float


class Concurrency:
    """The limit of one process.

    Args:
        most: The highest that it becomes.
        clock: Seconds, to measure with.
        wall: Seconds, the same in all processes on all machines, or nearly so.

    Attributes:
        limit: How many may be under way now; at least 1.
    """

    def __init__(
        self, most: int, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._most = most
        self._clock = clock
        self._wall = wall
        self._limit = float(min(FIRST, most))
        self._ceiling = float(most)
        self._ceiling_ends = 0.0
        self._rises_slowly_from = float(most)
        self._took_some = False  # since the last halving
        self._begun = 0
        self._full_at = 0  # how many had begun when as many were under way as may be, the last time
        self._halved_at = 0  # calls up to this number began before it was halved, the last time
        self._fell_from = self._limit
        self._fell_at = 0  # calls up to this number began before the limit fell: they say nothing of what it is now
        self._counts_from = clock()  # nor do those that began while others' from before were under way
        self._round_left = 0  # calls until a round ends; 0: none has begun
        self._mean = 0.0  # of the last round, seconds
        self._quickest = math.inf  # of the rounds' means since it fell, seconds
        self._quick = math.inf  # what an answer takes at most that is as quick, seconds
        self._calm = True  # the last round was so on average
        self._measured = False  # a round has ended since the last look
        self._look_at = clock() + self._until_look()
        self._looked_at_limit = self._limit  # that the last look found

    @property
    def limit(self) -> int:
        """How many may be under way now."""
        return int(self._limit)

    def look(self) -> None:
        """Fall, if it is time, and if something holds the limit down; to be called some times a second.

        What counts begins only when all that began before has been answered, in the other processes too.
        """
        now = self._clock()
        if now >= self._ceiling_ends:
            self._ceiling = float(self._most)
        if now < self._look_at:
            return
        if now >= self._look_at + ANEW_SECONDS:
            self._measured = False  # it was quiet
        self._look_at = now + self._until_look()
        rises = self._limit > RISES * self._looked_at_limit
        free = self._calm and self._measured and (rises or self._limit >= self._most)
        self._looked_at_limit = self._limit
        self._measured = False
        if not free:
            self._rises_slowly_from = min(REGAINS * max(self._rises_slowly_from, self._limit), float(self._most))
            self._fall(max(FALLS_TO * self._limit, FIRST), now + self._mean)
            self._quickest = self._quick = math.inf
            self._calm = True

    def begin(self, *, full: bool) -> Call:
        """A call begins; what it returns goes to one of the next three, whatever becomes of it.

        Args:
            full: Whether as many are under way with it as may be.
        """
        now = self._clock()
        if not self._round_left and now >= self._counts_from:
            self._begin_round()
        self._begun += 1
        if full:
            self._full_at = self._begun
        return Call(self._begun, now)

    def went_well(self, call: Call, *, full: bool) -> None:
        """The tracker answered one more, whatever it said of the event.

        Args:
            call: From ``begin``.
            full: Whether as many were under way until now as may be.
        """
        self._took_some = True
        if full:
            self._full_at = self._begun
        if self._counts(call):
            self._learn(call, self._clock() - call.at)

    def was_too_much(self, call: Call) -> None:
        """The tracker said so, or gave no whole answer."""
        self._count(call, None)
        if call.number > self._halved_at and self._took_some:
            self._took_some = False
            self._halved_at = self._begun
            was = self._limit if self._counts(call) else self._fell_from
            self._rises_slowly_from = max(1.0, was / 2)
            if self._rises_slowly_from < self._limit:
                self._fall(self._rises_slowly_from, self._clock())

    def no_more_connections(self, call: Call, open_connections: int) -> None:
        """No connection could be opened for a call, while others were open: it is over, and was not answered.

        Args:
            call: From ``begin``.
            open_connections: How many others were open.
        """
        self._count(call, None)
        self.keep_to(open_connections)

    def keep_to(self, open_connections: int) -> None:
        """For ten seconds the limit is this many connections, or one if there is none.

        Args:
            open_connections: How many this process has open.
        """
        now = self._clock()
        self._ceiling, self._ceiling_ends = float(max(1, open_connections)), now + CEILING_SECONDS
        if self._ceiling < self._limit:
            self._rises_slowly_from = self._ceiling
            self._fall(self._ceiling, now)

    def told_nothing(self, call: Call) -> None:
        """It ended in a way that says nothing of how much the tracker bears."""
        self._count(call, None)

    def _counts(self, call: Call) -> bool:
        return call.number > self._fell_at and call.at >= self._counts_from

    def _learn(self, call: Call, took: float) -> None:
        self._count(call, took)
        was_full = self._full_at >= call.number  # had there been room all the while, it would say nothing of more
        if was_full and self._calm and took <= self._quick and self._limit < self._ceiling:
            step = 1.0 if self._limit < self._rises_slowly_from else 1 / self._limit
            self._limit = min(self._limit + step, self._ceiling)

    def _count(self, call: Call, took: float | None) -> None:
        """A round is as many calls as could be under way when it began, from the next one on.

        Not the next answers that come, which at first are all quick ones where some take long.
        """
        if not self._round_left or not 0 < call.number - self._round_after <= self._round_size:
            return
        self._round_left -= 1
        if took is not None:
            self._round_answers += 1
            self._round_seconds += took
        if not self._round_left and self._round_answers:
            self._end_round()

    def _begin_round(self) -> None:
        """With the next call."""
        self._round_after, self._round_size = self._begun, self.limit
        self._round_left = math.ceil(ROUND_SHARE * self._round_size)
        self._round_answers, self._round_seconds = 0, 0.0

    def _end_round(self) -> None:
        self._mean = mean = self._round_seconds / self._round_answers
        if mean < self._quickest:
            self._quickest = mean
            self._quick = max(QUICK_SECONDS, QUICK_TIMES * mean)
        self._calm = mean <= self._quick
        self._measured = True

    def _fall(self, limit: float, counts_from: float) -> None:
        self._fell_from = self._limit
        self._limit = min(self._limit, limit)
        self._fell_at, self._counts_from = self._begun, counts_from
        self._round_left = 0

    def _until_look(self) -> float:
        """Seconds until the next, which is at the same moment everywhere."""
        return ANEW_SECONDS - self._wall() % ANEW_SECONDS
