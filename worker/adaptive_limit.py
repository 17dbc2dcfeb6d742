"""How many POSTs one process may have in flight: congestion control as in TCP, with an answer in place of an ACK.

| part | rule | source |
| --- | --- | --- |
| slow start | the limit begins at 16 and doubles with each round of answers, up to ssthresh | RFC 5681 |
| additive increase | from ssthresh on it grows by one a round | RFC 5681 |
| multiplicative decrease | a 429, a 503 or no whole answer halves it, once for all calls in flight | RFC 5681, 6582 |
| only when limited | it grows only by calls during which as many were in flight as it allows | RFC 7661 |
| queueing | it does not grow while answers take longer than the baseline latency | TCP Vegas |
| baseline probe | once a minute it drops to an eighth and measures the baseline latency again | BBR, ProbeRTT |

Without another answer in between, nothing is halved twice: a tracker that takes nothing at all is the circuit breaker's
business.

A process skips the baseline probe while nothing holds the limit down. All processes on all machines probe at the same
moment, by the wall clock: otherwise each would take the others' queue for the tracker's own latency. The probe also
raises ssthresh to 1.5 times what it was, so a short trouble is made good within minutes. After a quiet time the limit
starts small again.

A tracker, a proxy or a firewall may also limit the connections of an address. When no further connection can be opened
while others are open, the number of open ones is the highest limit for ten seconds.

docs/benchmarks.md has the default beside the best fixed number.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from insend_relay.worker.latency import Latency

INITIAL_LIMIT = 16
DECREASE = 1 / 2
PROBE_SECONDS = 60.0  # between two baseline probes
PROBE_SHARE = 1 / 8
SSTHRESH_GAIN = 1.5  # of a baseline probe
GROWS_BY = 1.5  # a limit that has grown so much since the last probe needs none
CAP_SECONDS = 10.0  # how long the limit stays at the number of open connections when no further one can be opened


class Call(NamedTuple):
    """A POST in flight.

    Attributes:
        number: How many had begun with it.
        began_at: When it began, by the clock.
    """

    number: int
    began_at: float


class AdaptiveLimit:
    """The limit of one process. It only counts; ``Limiter`` keeps to it.

    Args:
        max_limit: The highest that it becomes.
        clock: Seconds, to measure with.
        wall: Seconds, the same in all processes on all machines, or nearly so.

    Attributes:
        limit: How many may be in flight now; at least 1.
    """

    def __init__(
        self, max_limit: int, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._max = float(max_limit)
        self._clock = clock
        self._wall = wall
        self._limit = min(float(INITIAL_LIMIT), self._max)
        self.limit = int(self._limit)
        self._ssthresh = self._max
        self._cap, self._cap_ends = self._max, 0.0
        self._begun = 0
        self._limited_at = 0  # how many had begun when as many were in flight as allowed, the last time
        self._recover = 0  # calls up to this number began before the last halving
        self._answered = False  # since the last halving
        self._drop_at = 0  # calls up to this number began before the limit dropped: they say nothing of it
        self._limit_before_drop = self._limit
        self._valid_from = clock()  # nor do calls that began while others' from before the drop were in flight
        self._latency = Latency()
        self._probe_at = clock() + self._until_probe()
        self._limit_at_probe = self._limit

    def tick(self) -> None:
        """Do what is due by the clock; call it some times a second."""
        now = self._clock()
        if now >= self._cap_ends:
            self._cap = self._max
        if now >= self._probe_at:
            self._probe_if_needed(now)

    def begin(self, *, limited: bool) -> Call:
        """A call begins; what this returns goes to one of the next four.

        Args:
            limited: Whether with it as many are in flight as allowed.
        """
        now = self._clock()
        if not self._latency.in_round and now >= self._valid_from:
            self._latency.begin_round(self._begun, self.limit)
        self._begun += 1
        if limited:
            self._limited_at = self._begun
        return Call(self._begun, now)

    def answered(self, call: Call, *, limited: bool) -> None:
        """The tracker answered, whatever it said of the event.

        Args:
            call: From ``begin``.
            limited: Whether until now as many were in flight as allowed.
        """
        self._answered = True
        if limited:
            self._limited_at = self._begun
        if not self._is_valid(call):
            return
        seconds = self._clock() - call.began_at
        self._latency.count(call.number, seconds)
        was_limited = self._limited_at >= call.number
        if was_limited and seconds <= self._latency.tolerated and not self._latency.queueing:
            self._increase()

    def dropped(self, call: Call) -> None:
        """The tracker said that it has too much to do, or gave no whole answer."""
        self._latency.count(call.number, None)
        if call.number <= self._recover or not self._answered:
            return
        self._recover, self._answered = self._begun, False
        was = self._limit if self._is_valid(call) else self._limit_before_drop
        self._ssthresh = max(1.0, DECREASE * was)
        if self._ssthresh < self._limit:
            self._drop_to(self._ssthresh, self._clock())

    def ignored(self, call: Call) -> None:
        """The call ended in a way that says nothing of the tracker's capacity."""
        self._latency.count(call.number, None)

    def cap(self, open_connections: int) -> None:
        """No further connection could be opened: for ten seconds the limit is the number of open ones, at least 1."""
        now = self._clock()
        self._cap, self._cap_ends = float(max(1, open_connections)), now + CAP_SECONDS
        if self._cap < self._limit:
            self._ssthresh = self._cap
            self._drop_to(self._cap, now)

    def _is_valid(self, call: Call) -> bool:
        """Whether the call says something of the limit that is valid now."""
        return call.number > self._drop_at and call.began_at >= self._valid_from

    def _increase(self) -> None:
        """By the share of one answer: slow start up to ssthresh, then additive increase."""
        if self._limit < self._cap:
            step = 1.0 if self._limit < self._ssthresh else 1 / self._limit
            self._set(min(self._limit + step, self._cap))

    def _drop_to(self, limit: float, valid_from: float) -> None:
        self._limit_before_drop = self._limit
        self._set(min(self._limit, limit))
        self._drop_at, self._valid_from = self._begun, valid_from
        self._latency.drop_round()

    def _set(self, limit: float) -> None:
        self._limit = limit
        self.limit = int(limit)

    def _probe_if_needed(self, now: float) -> None:
        """Probe the baseline latency, unless nothing holds the limit down."""
        latency = self._latency
        if now >= self._probe_at + PROBE_SECONDS:
            latency.measured = False  # it was quiet
        self._probe_at = now + self._until_probe()
        grows = self._limit > GROWS_BY * self._limit_at_probe
        unhindered = latency.measured and not latency.queueing and (grows or self._limit >= self._max)
        self._limit_at_probe = self._limit
        latency.measured = False
        if not unhindered:
            self._probe_baseline(now)

    def _probe_baseline(self, now: float) -> None:
        """Drop to few calls in flight. A round counts from when all earlier calls, other processes' too, have ended."""
        self._ssthresh = min(SSTHRESH_GAIN * max(self._ssthresh, self._limit), self._max)
        self._drop_to(max(PROBE_SHARE * self._limit, INITIAL_LIMIT), now + self._latency.mean)
        self._latency.forget_baseline()

    def _until_probe(self) -> float:
        """Seconds until the next probe, which is at the same moment everywhere."""
        return PROBE_SECONDS - self._wall() % PROBE_SECONDS
