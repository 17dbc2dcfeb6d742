"""How many POSTs a process has under way: as many as the tracker bears, found as TCP finds what a network bears.

It starts small and doubles with each round of answers (slow start). An answer by which the tracker says that it has too
much to do (429, 503), or none that is whole, halves it, once for all that were under way; from there it rises by one a
round (additive increase, multiplicative decrease; RFC 5681). A tracker that takes nothing at all is the outage guard's
business: without another answer in between nothing is halved twice.

It does not wait to be told, though: where answers take longer the more are under way, more are of no use, and a weak
tracker must not be overrun. So it rises only by answers that come about as quickly as with few under way, as TCP Vegas
does (Brakmo and Peterson, 1995). How quickly that is it finds out anew every 15 s: it falls to an eighth, and rises
again in three rounds; so BBR looks for a path's own delay. All processes of a machine do so at the same moment, or each
would take the others' queue for the tracker's own slowness. That fall also makes good what a short trouble has done:
from then on it doubles up to one and a half times what it was.

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
ANEW_SECONDS, ANEW_MOST_SECONDS = 15.0, 120.0  # between two falls; the more, the slower the tracker
ANEW_ROUNDS = 16  # so many rounds fit between two falls at least, as far as the most allows
QUICK_SECONDS = 0.1  # what an answer may take in any case: the process itself takes some of it
QUICK_TIMES = 1.5  # or so many times what it takes with few under way


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
        clock: Seconds, the same in all processes of a machine.

    Attributes:
        limit: How many may be under way now; at least 1.
    """

    _quickest: float  # of the rounds' means, seconds
    _quick: float  # what an answer takes at most that is as quick, seconds
    _calm: bool  # the last round was so on average
    _anew_at: float

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._limit = float(min(FIRST, most))
        self._rises_slowly_from = float(most)
        self._took_some = False  # since the last halving
        self._begun = 0
        self._fell_at = 0  # calls up to this number began before the limit fell: they say nothing of what it is now
        self._full_at = 0  # how many had begun when as many were under way as may be, the last time
        self._forget()
        self._begin_round()

    @property
    def limit(self) -> int:
        """How many may be under way now."""
        return int(self._limit)

    def begin(self, *, full: bool) -> Call:
        """A call begins; what it returns goes to ``went_well`` or ``was_too_much``.

        Args:
            full: Whether as many are under way with it as may be.
        """
        self._begun += 1
        if full:
            self._full_at = self._begun
        return Call(self._begun, self._clock())

    def went_well(self, call: Call, *, full: bool) -> None:
        """The tracker answered one more, whatever it said of the event.

        Args:
            call: From ``begin``.
            full: Whether as many were under way until now as may be.
        """
        now = self._clock()
        self._took_some = True
        if full:
            self._full_at = self._begun
        if now >= self._anew_at:
            self._rises_slowly_from = min(REGAINS * max(self._rises_slowly_from, self._limit), float(self._most))
            self._fall(max(FALLS_TO * self._limit, FIRST))
            self._forget()
        if call.number > self._fell_at:
            self._learn(now - call.at, was_full=self._full_at >= call.number)

    def was_too_much(self, call: Call) -> None:
        """The tracker said so, or gave no whole answer."""
        if call.number > self._fell_at and self._took_some:
            self._took_some = False
            self._rises_slowly_from = max(1.0, self._limit / 2)
            self._fall(self._rises_slowly_from)

    def _learn(self, took: float, *, was_full: bool) -> None:
        """From an answer; had there been room all the while, it would say nothing of more under way."""
        self._round_seconds += took
        self._round_left -= 1
        if not self._round_left:
            self._end_round()
        if was_full and self._calm and took <= self._quick and self._limit < self._most:
            step = 1.0 if self._limit < self._rises_slowly_from else 1 / self._limit
            self._limit = min(self._limit + step, float(self._most))

    def _end_round(self) -> None:
        """As many were answered as could be under way when it began."""
        mean = self._round_seconds / self._round_size
        if mean < self._quickest:
            self._quickest = mean
            self._quick = max(QUICK_SECONDS, QUICK_TIMES * mean)
            self._anew_at = _next_fall(self._clock(), mean)
        self._calm = mean <= self._quick
        self._begin_round()

    def _begin_round(self) -> None:
        self._round_size = self._round_left = self.limit
        self._round_seconds = 0.0

    def _fall(self, limit: float) -> None:
        self._limit = min(self._limit, limit)
        self._fell_at = self._begun
        self._begin_round()

    def _forget(self) -> None:
        """How quickly the tracker answers."""
        self._quickest = self._quick = math.inf
        self._calm = True
        self._anew_at = self._clock() + ANEW_MOST_SECONDS  # until the first round has ended


def _next_fall(now: float, quickest: float) -> float:
    """When it is due, the same in all processes."""
    period = ANEW_SECONDS
    while period < min(ANEW_ROUNDS * quickest, ANEW_MOST_SECONDS):
        period *= 2
    return (now // period + 1) * period
