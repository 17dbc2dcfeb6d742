"""How long the tracker takes to answer: the baseline latency, and whether answers take longer because they queue.

As in TCP Vegas (Brakmo and Peterson, 1995), latency is judged once a round. A round is as many calls as may be in
flight when it begins, counted from the next call on. It does not count the next answers: where some answers take long,
the first ones that arrive are all quick.
"""

from __future__ import annotations

import math

TOLERATED_SECONDS = 0.1  # an answer may take this long in any case: the process itself takes some of it
TOLERATED_RATIO = 1.5  # or this many times the baseline
ROUND_SHARE = 3 / 4  # of a round's calls must have ended: a few that take very long do not hold it up


class Latency:
    """The latency of one process's calls, in seconds.

    Attributes:
        mean: Of the last round.
        tolerated: An answer that takes longer shows that calls queue. Infinite while there is no baseline.
        queueing: Whether the last round's mean was longer than tolerated.
        measured: Whether a round has ended since this was last set to False.
    """

    def __init__(self) -> None:
        self.mean = 0.0
        self.tolerated = self._baseline = math.inf
        self.queueing = False
        self.measured = False
        self._after = self._size = self._left = 0  # of the current round; left 0: there is none
        self._answers, self._seconds = 0, 0.0

    @property
    def in_round(self) -> bool:
        """Whether a round has begun and not ended."""
        return self._left > 0

    def begin_round(self, after: int, size: int) -> None:
        """Count the calls with the numbers ``after + 1`` to ``after + size``."""
        self._after, self._size = after, size
        self._left = math.ceil(ROUND_SHARE * size)
        self._answers, self._seconds = 0, 0.0

    def drop_round(self) -> None:
        """End the round without a result: its calls say nothing of the limit that is valid now."""
        self._left = 0

    def count(self, number: int, seconds: float | None) -> None:
        """A call has ended.

        Args:
            number: Which.
            seconds: How long its answer took; None when it says nothing of latency.
        """
        if not self._left or not 0 < number - self._after <= self._size:
            return
        self._left -= 1
        if seconds is not None:
            self._answers += 1
            self._seconds += seconds
        if not self._left and self._answers:
            self._end_round()

    def forget_baseline(self) -> None:
        """Measure the baseline anew."""
        self.tolerated = self._baseline = math.inf
        self.queueing = False

    def _end_round(self) -> None:
        self.mean = self._seconds / self._answers
        if self.mean < self._baseline:
            self._baseline = self.mean
            self.tolerated = max(TOLERATED_SECONDS, TOLERATED_RATIO * self._baseline)
        self.queueing = self.mean > self.tolerated
        self.measured = True
