"""How long an app's deliveries take: histograms since the beginning, as ``lua/shared/latency.lua`` writes them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self

from insend_relay.outbox.replies import pairs
from insend_relay.outbox.store import Outbox

LAST = 27  # the exponent under which longer times are counted, too
BOUNDS_MS = tuple(1 << exponent for exponent in range(LAST))


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often something took how long.

    Attributes:
        counts: For each of ``BOUNDS_MS``, how often it took less, and as long as the bound before or longer; then how
            often it took as long as the last or longer.
        sum_ms: All times together.
    """

    counts: tuple[int, ...] = (0,) * (LAST + 1)
    sum_ms: int = 0

    @property
    def count(self) -> int:
        """How often."""
        return sum(self.counts)

    def __add__(self, other: Self) -> Self:
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return type(self)(counts, self.sum_ms + other.sum_ms)

    def within_seconds(self, share: float) -> float | None:
        """The bound that this share of all kept, in seconds; None when it is beyond the last bound."""
        if not self.count:
            return None
        for bound, reached in zip(BOUNDS_MS, accumulate(self.counts), strict=False):
            if reached >= share * self.count:
                return bound / 1000
        return None

    def as_dict(self) -> dict[str, Any]:
        """For JSON: cumulative counts by bound in seconds, as Prometheus has them."""
        bounds = [f"{bound / 1000:g}" for bound in BOUNDS_MS] + ["+Inf"]
        return {
            "count": self.count,
            "sum_seconds": self.sum_ms / 1000,
            "buckets": dict(zip(bounds, accumulate(self.counts), strict=True)),
        }


@dataclass(frozen=True, slots=True)
class Latency:
    """How long an app's deliveries took.

    Attributes:
        delivered: From acceptance to the tracker's 200. Replayed events are not in it.
        post: The POSTs that were answered 200.
    """

    delivered: Histogram = Histogram()
    post: Histogram = Histogram()


def read_latency(outbox: Outbox, app: str) -> Latency:
    """An app's histograms."""
    key = outbox.keys.latency(app).encode(errors="surrogateescape")
    found = {name.decode(): int(number) for name, number in pairs(outbox.read("HGETALL", key))}

    def histogram(name: str) -> Histogram:
        counts = tuple(found.get(f"{name}:{exponent}", 0) for exponent in range(LAST + 1))
        return Histogram(counts, found.get(f"{name}_ms", 0))

    return Latency(histogram("delivered"), histogram("post"))
