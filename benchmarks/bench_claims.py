"""What must be shown: each claim with its figure and its target, out of the data of one ``make bench``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bench_data import Runs
from bench_figures import median, pooled, ratio
from entrants import BARE_ENTRANT, CELERY_ENTRANT, DELAYS_MS, LEAN_LOOP, PEERS, RELAY_ENTRANT
from tuned import DEFAULT

OURS, CELERY = RELAY_ENTRANT.name, CELERY_ENTRANT.name


@dataclass(frozen=True)
class Claim:
    """One line of the table.

    Attributes:
        words: What is claimed.
        figure: What was measured; None when it was not.
        target: What it is to be.
        at_least: Whether the target is the least that the figure may be, or the most.
        unit: Behind the figure: "x" for a ratio, "ms", "bytes".
    """

    words: str
    figure: float | None
    target: float
    at_least: bool
    unit: str = "x"

    @property
    def reached(self) -> bool | None:
        """Whether it holds; None when it was not measured."""
        if self.figure is None:
            return None
        return self.figure >= self.target if self.at_least else self.figure <= self.target


def claims(data: dict[str, Any]) -> list[Claim]:
    """All of them, in the order of the table."""
    runs = {name: part["runs"] for name, part in data.items()}
    parts = (
        _throughput(runs.get("throughput", [])),
        _tuned(runs.get("tuned", [])),
        _enqueue(runs.get("enqueue", [])),
        _idle(runs.get("idle", [])),
        _memory(runs.get("memory", [])),
        _growth(runs.get("growth", [])),
    )
    return [claim for part in parts for claim in part]


def rate(runs: Runs, entrant: str, delay_ms: int) -> float | None:
    """The median of an entrant's events a second, one event of each visitor."""
    return median(runs, "per_second", entrant=entrant, delay_ms=delay_ms, lane=1)


def fastest_peer(runs: Runs, delay_ms: int) -> float | None:
    """The best median among the others."""
    return max((found for peer in PEERS if (found := rate(runs, peer.name, delay_ms))), default=None)


def tuned_ratio(runs: Runs, delay_ms: int) -> float | None:
    """The default against the best value, by the finals' medians."""
    finals = [run for run in runs if run["stage"] == "final" and run["delay_ms"] == delay_ms]
    rates = {value: median(finals, "per_second", concurrency=value) for value in {run["concurrency"] for run in finals}}
    default = rates.pop(DEFAULT, None)
    return ratio(default, max((found for found in rates.values() if found), default=None))


def _throughput(runs: Runs) -> Iterable[Claim]:
    for delay_ms, target in ((0, 6.0), (50, 11.0)):
        words = f"delivered a second at {delay_ms} ms, against plain Celery"
        yield Claim(words, ratio(rate(runs, OURS, delay_ms), rate(runs, CELERY, delay_ms)), target, at_least=True)
    for delay_ms in (0, 50):
        words = f"the same at {delay_ms} ms, against the fastest of the others"
        yield Claim(words, ratio(rate(runs, OURS, delay_ms), fastest_peer(runs, delay_ms)), 1.25, at_least=True)
    bare = ratio(rate(runs, OURS, 0), rate(runs, LEAN_LOOP.name, 0))
    yield Claim("the same at 0 ms, against our own client without any queue", bare, 0.6, at_least=True)


def _tuned(runs: Runs) -> Iterable[Claim]:
    for delay_ms in DELAYS_MS:
        words = f"the defaults at {delay_ms} ms, against the best INSEND_CONCURRENCY"
        yield Claim(words, tuned_ratio(runs, delay_ms), 0.85, at_least=True)


def _enqueue(runs: Runs) -> Iterable[Claim]:
    ours = median(runs, "p50_ms", entrant=OURS)
    celery = ratio(ours, median(runs, "p50_ms", entrant=CELERY))
    yield Claim("a call of a producer, checking included, against Celery's delay (p50)", celery, 0.5, at_least=False)
    bare = ratio(ours, median(runs, "p50_ms", entrant=BARE_ENTRANT.name))
    yield Claim("the same, against a bare RPUSH of the same payload (p50)", bare, 2.0, at_least=False)


def _idle(runs: Runs) -> Iterable[Claim]:
    for hundredths, target in ((50, 10.0), (99, 50.0)):
        found = pooled(runs, "post_ms", hundredths, entrant=OURS)
        yield Claim(
            f"from the call's return to the POST, all idle (p{hundredths})", found, target, at_least=False, unit="ms"
        )


def _memory(runs: Runs) -> Iterable[Claim]:
    held = median(runs, "bytes", entrant=OURS)
    yield Claim("memory in Redis of a waiting event, one of each visitor", held, 600, at_least=False, unit="bytes")


def _growth(runs: Runs) -> Iterable[Claim]:
    many = median(runs, "per_second", what="waiting", size=1_000_000)
    few = median(runs, "per_second", what="waiting", size=1_000)
    yield Claim("draining 1,000,000 waiting events, against 1,000 (a second)", ratio(many, few), 0.95, at_least=True)
