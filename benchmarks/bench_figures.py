"""Medians, spreads and ratios out of the raw runs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from bench_data import Runs
from machinery import percentile


class Spread(NamedTuple):
    """A figure measured several times.

    Attributes:
        median: The middle one.
        least: The smallest.
        most: The largest.
    """

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Self:
        """Of the rounds' figures."""
        return cls(statistics.median(figures), min(figures), max(figures))


def select(runs: Runs, **wanted: Any) -> Runs:
    """The runs whose key says all of this."""
    return [run for run in runs if all(run.get(name) == value for name, value in wanted.items())]


def spread(runs: Runs, figure: str, **wanted: Any) -> Spread | None:
    """A figure of these runs; None when there is none."""
    figures = [float(run[figure]) for run in select(runs, **wanted) if run.get(figure) is not None]
    return Spread.of(figures) if figures else None


def median(runs: Runs, figure: str, **wanted: Any) -> float | None:
    """Its median likewise."""
    found = spread(runs, figure, **wanted)
    return found.median if found else None


def ratio(figure: float | None, base: float | None) -> float | None:
    """How many times the base a figure is; None when one is missing."""
    return figure / base if figure is not None and base else None


def pooled(runs: Runs, figure: str, hundredths: int, **wanted: Any) -> float | None:
    """A percentile of all that these runs have listed."""
    figures = [float(one) for run in select(runs, **wanted) for one in run[figure]]
    return percentile(figures, hundredths) if figures else None
