"""How many POSTs a process has under way: as many as the tracker bears, found as TCP finds what a network bears.

It starts small and doubles with each round of answers (slow start). An answer by which the tracker says that it has too
much to do (429, 503), or none that is whole, halves it, once for all that were under way; from there it rises by one a
round (additive increase, multiplicative decrease; RFC 5681). So a strong tracker gets the most within a second, a weak
one is not overrun again and again, and nobody has to tune. A tracker that takes nothing at all is the outage guard's
business: without another answer in between nothing is halved twice.
"""

from __future__ import annotations

FIRST = 16


class Concurrency:
    """The limit of one process.

    Args:
        most: The highest that it becomes.

    Attributes:
        limit: How many may be under way now; at least 1.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(min(FIRST, most))
        self._rises_slowly_from = float(most)
        self._round = 0  # rises with each halving; calls begun before it say nothing new
        self._took_some = False  # since the last halving

    @property
    def limit(self) -> int:
        """How many may be under way now."""
        return int(self._limit)

    def begin(self) -> int:
        """A call begins; what it returns goes to ``went_well`` or ``was_too_much``."""
        return self._round

    def went_well(self, begun: int, *, full: bool) -> None:
        """The tracker answered one more, whatever it said of the event.

        Args:
            begun: From ``begin``.
            full: Whether as many were under way as may be: else nothing is known about more.
        """
        self._took_some = True
        if full and begun == self._round and self._limit < self._most:
            step = 1.0 if self._limit < self._rises_slowly_from else 1 / self._limit
            self._limit = min(self._limit + step, float(self._most))

    def was_too_much(self, begun: int) -> None:
        """The tracker said so, or gave no whole answer."""
        if begun == self._round and self._took_some:
            self._round += 1
            self._took_some = False
            self._limit = self._rises_slowly_from = max(1.0, self._limit / 2)
