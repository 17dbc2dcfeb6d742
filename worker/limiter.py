"""The adaptive concurrency limit on POSTs: a semaphore whose size is found while it is in use.

A lane's event is sent and acknowledged in the block of a slot::

    with limiter.slot() as slot:
        outcome = tracker.post(body)
        slot.success()  # or answered(), dropped(), ignored(), no_connection()
        outbox.settle(claim)

``success`` frees the slot before the event is settled: while that takes its time, another lane's event is in flight, so
that tracker and Redis do not wait for each other. Every other slot is freed at the end of the block, when the circuit
breaker has been told of the failure: so no POST begins that the breaker would hold back.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Self

import gevent
from gevent.hub import Waiter

from insend_relay.worker.adaptive_limit import AdaptiveLimit, Call

LANES_TO_SLOTS = 2  # as many lanes may be settling their last event as may have one in flight


class Limiter:
    """Grants slots to the greenlets of one thread, first come, first served.

    Args:
        max_slots: The highest number of slots.
        clock: As for ``AdaptiveLimit``.
        wall: As for ``AdaptiveLimit``.
    """

    def __init__(
        self, max_slots: int, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._adaptive = AdaptiveLimit(max_slots, clock, wall)
        self._waiting: deque[Slot] = deque()
        self._granted = 0  # not freed yet
        self._blocks = 0  # granted, and the block has not ended yet

    @property
    def limit(self) -> int:
        """How many slots there are now."""
        return self._adaptive.limit

    @property
    def lanes(self) -> int:
        """How many lanes use a slot, wait for one, or have freed one and not ended its block."""
        return self._blocks + len(self._waiting)

    @property
    def room(self) -> int:
        """How many more lanes may be claimed."""
        unused = self.limit - self._granted - len(self._waiting)
        return max(0, min(unused, LANES_TO_SLOTS * self.limit - self.lanes))

    @property
    def full(self) -> bool:
        """Whether the limit is what holds the process back."""
        limit = self._adaptive.limit
        return self._granted >= limit or self._blocks + len(self._waiting) >= LANES_TO_SLOTS * limit

    @property
    def exceeded(self) -> bool:
        """Whether there are too many lanes, as after a decrease: some have to be given back."""
        return self.lanes > LANES_TO_SLOTS * self.limit

    def slot(self) -> Slot:
        """A slot, or a place in the queue for one; ``with`` waits for it. Each must be used."""
        slot = Slot(self, self._adaptive)
        self._waiting.append(slot)
        self._grant()
        return slot

    def cap(self, open_connections: int) -> None:
        """See ``AdaptiveLimit.cap``."""
        self._adaptive.cap(open_connections)

    def tick(self) -> None:
        """See ``AdaptiveLimit.tick``."""
        self._adaptive.tick()

    def _grant(self) -> None:
        while self._waiting and self._granted < self._adaptive.limit:
            self._granted += 1
            self._blocks += 1
            self._waiting.popleft().grant()

    def _free(self) -> None:
        self._granted -= 1
        self._grant()

    def _end_block(self) -> None:
        self._blocks -= 1


class Slot:
    """The right to have one POST in flight; made by ``Limiter.slot``, used once.

    Call one of the methods when the POST has ended; without one it counts as ignored.
    """

    __slots__ = ("_adaptive", "_call", "_granted", "_limiter", "_waiter")

    def __init__(self, limiter: Limiter, adaptive: AdaptiveLimit) -> None:
        self._limiter = limiter
        self._adaptive = adaptive
        self._granted = False
        self._waiter: Waiter | None = None
        self._call: Call | None = None  # that is in flight

    def __enter__(self) -> Self:
        if not self._granted:
            self._waiter = Waiter()
            self._waiter.get()
        self._call = self._adaptive.begin(limited=self._limiter.full)
        return self

    def __exit__(self, *_: object) -> None:
        self.ignored()
        self._free()
        self._limiter._end_block()  # noqa: SLF001 - the two are one thing

    def success(self) -> None:
        """The tracker took the event: free the slot now."""
        self.answered()
        self._free()

    def answered(self) -> None:
        """The tracker answered something else, and not that it has too much to do."""
        if call := self._end_call():
            self._adaptive.answered(call, limited=self._limiter.full)

    def dropped(self) -> None:
        """The tracker said that it has too much to do, or gave no whole answer."""
        if call := self._end_call():
            self._adaptive.dropped(call)

    def ignored(self) -> None:
        """The POST ended in a way that says nothing of the tracker's capacity."""
        if call := self._end_call():
            self._adaptive.ignored(call)

    def no_connection(self, open_connections: int) -> None:
        """No connection could be opened for it, while others were open.

        Args:
            open_connections: How many others.
        """
        self.ignored()
        self._adaptive.cap(open_connections)

    def grant(self) -> None:
        """The limiter grants the slot: its greenlet goes on, if it waits already."""
        self._granted = True
        if self._waiter is not None:
            gevent.get_hub().loop.run_callback(self._waiter.switch, None)

    def _end_call(self) -> Call | None:
        call, self._call = self._call, None
        return call

    def _free(self) -> None:
        if self._granted:
            self._granted = False
            self._limiter._free()  # noqa: SLF001 - the two are one thing
