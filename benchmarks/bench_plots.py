"""The plots of ``docs/benchmarks.md``: one SVG a question, on white, so that they read on dark pages too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from bench_data import Runs
from bench_figures import Spread, select, spread
from bench_tables import entrants_of, label
from entrants import DELAYS_MS
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter
from tuned import DEFAULT

OURS_COLOUR, OTHERS_COLOUR, REDIS_COLOUR, NONE_COLOUR = "#1f5fbf", "#8a8f98", "#c0392b", "#c9ccd1"
LINE_COLOURS = ("#1f5fbf", "#c0392b", "#2e8b57", "#b8860b")
MARKS = ("o", "s", "^", "D")
WIDE = 9.0
EVENT_BYTES = 733
STYLE = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e6e9",
    "svg.fonttype": "none",  # text stays text: a tenth of the size
    "svg.hashsalt": "insend-relay",  # the same figures, the same file
}


def draw(data: dict[str, Any], folder: Path) -> None:
    """Draw the plots of all parts that there are."""
    mpl.use("Agg")
    folder.mkdir(exist_ok=True)
    with mpl.rc_context(STYLE):
        for part, plots in _PLOTS.items():
            if part in data:
                for name, plot in plots.items():
                    figure = plot(data[part]["runs"])
                    if figure is not None:
                        figure.savefig(folder / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})
                        plt.close(figure)


def _throughput(runs: Runs) -> Any:
    delays = [delay_ms for delay_ms in DELAYS_MS if select(runs, delay_ms=delay_ms)]
    figure, panels = plt.subplots(len(delays), 1, figsize=(WIDE, 3.0 * len(delays)), squeeze=False)
    for axes, delay_ms in zip(panels[:, 0], delays, strict=True):
        names = entrants_of(runs, delay_ms)
        figures = [
            spread(runs, "per_second", entrant=name, lane=lane, delay_ms=delay_ms) or Spread(0, 0, 0)
            for name, lane in names
        ]
        _bars(axes, [label(*name) for name in names], figures)
        _most(axes, [one for (name, _), one in zip(names, figures, strict=True) if "no queue" not in name], figures)
        axes.set_title(f"The tracker answers {f'after {delay_ms} ms' if delay_ms else 'at once'}", loc="left")
        axes.set_xlabel("events delivered a second")
    figure.tight_layout()
    return figure


def _most(axes: Any, queued: Sequence[Spread], figures: Sequence[Spread]) -> None:
    """The loops without a queue may be far off: the axis is the others', and a longer bar is cut off and says so."""
    most = min(max(one.most for one in queued) * 1.6, max(one.most for one in figures) * 1.15)
    axes.set_xlim(0, most)
    for place, one in enumerate(figures):
        if one.most > most:
            axes.text(
                most * 0.99,
                place,
                f"{one.median:,.0f}, beyond this axis",
                va="center",
                ha="right",
                fontsize=8,
                zorder=5,  # above the spread, which may end here
                bbox={"facecolor": NONE_COLOUR, "edgecolor": "none", "pad": 1},
            )


def _cpu(runs: Runs) -> Any:
    delay_ms = 0
    names = [(name, lane) for name, lane in entrants_of(runs, delay_ms) if lane == 1]
    figure, axes = plt.subplots(figsize=(WIDE, 3.4))
    figures = [spread(runs, "cpu_ms", entrant=name, lane=1, delay_ms=delay_ms) or Spread(0, 0, 0) for name, _ in names]
    _bars(axes, [name for name, _ in names], figures, digits=2)
    redis = [spread(runs, "redis_ms", entrant=name, lane=1, delay_ms=delay_ms) or Spread(0, 0, 0) for name, _ in names]
    bars = axes.barh(range(len(names)), [one.median for one in redis], color=REDIS_COLOUR, height=0.3)
    bars.set_label("of it Redis")
    axes.set_title("The tracker answers at once", loc="left")
    axes.set_xlabel("CPU time an event, ms, workers and Redis together")
    axes.legend(loc="lower left", bbox_to_anchor=(0.8, 1.0))
    return figure


def _enqueue(runs: Runs) -> Any:
    names = list(dict.fromkeys(run["entrant"] for run in runs))
    figure, axes = plt.subplots(figsize=(WIDE, 3.0))
    p50, p99 = (
        [spread(runs, figure, entrant=name) or Spread(0, 0, 0) for name in names] for figure in ("p50_ms", "p99_ms")
    )
    _bars(axes, names, p50, digits=2)
    axes.plot([one.median for one in p99], range(len(names)), "|", color=REDIS_COLOUR, markersize=14, label="p99")
    axes.set_xlim(0, max(one.median for one in (*p50, *p99)) * 1.1)
    axes.set_xlabel("a call, median, ms")
    axes.legend(loc="lower left", bbox_to_anchor=(0.8, 1.0))
    return figure


def _idle(runs: Runs) -> Any:
    figure, axes = plt.subplots(figsize=(WIDE, 3.6))
    names = list(dict.fromkeys(run["entrant"] for run in runs))
    for name, colour in zip(names, LINE_COLOURS, strict=False):
        taken = sorted(max(0.1, one) for run in select(runs, entrant=name) for one in run["post_ms"])
        shares = [100 * (at + 1) / len(taken) for at in range(len(taken))]
        axes.step(taken, shares, where="post", color=colour, label=name)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    axes.set_xlabel("from the call's return to the POST at the tracker, ms")
    axes.set_ylabel("events that have arrived, %")
    axes.legend()
    return figure


def _memory(runs: Runs) -> Any:
    names = list(dict.fromkeys(run["entrant"] for run in runs))
    figure, axes = plt.subplots(figsize=(WIDE, 2.2))
    _bars(axes, names, [spread(runs, "bytes", entrant=name) or Spread(0, 0, 0) for name in names])
    axes.axvline(EVENT_BYTES, color=REDIS_COLOUR, linewidth=1.5, label=f"the event itself, {EVENT_BYTES} bytes")
    axes.legend(loc="lower left", bbox_to_anchor=(0.6, 1.0))
    axes.set_xlabel("bytes in Redis for each waiting event")
    return figure


def _tuned(runs: Runs) -> Any:
    figure, axes = plt.subplots(figsize=(WIDE, 4.0))
    for delay_ms, colour, mark in zip(DELAYS_MS, LINE_COLOURS, MARKS, strict=True):
        found = sorted(
            (run["concurrency"], run["per_second"]) for run in select(runs, stage="search", delay_ms=delay_ms)
        )
        if found:
            values, rates = zip(*found, strict=True)
            axes.plot(values, rates, marker=mark, color=colour, label=f"answers after {delay_ms} ms")
        for run in select(runs, stage="final", delay_ms=delay_ms, concurrency=DEFAULT):
            axes.plot(run["value"], run["per_second"], "*", color=colour, markersize=14, markeredgecolor="black")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(_plain))
    axes.set_xlabel("INSEND_CONCURRENCY, per process (stars: the default, each round)")
    axes.set_ylabel("events delivered a second")
    axes.legend()
    return figure


def _growth(runs: Runs) -> Any:
    measures = (
        ("per_second", "events delivered a second"),
        ("claim_ms", "a claim of 32, ms"),
        ("status_ms", "status, ms"),
    )
    figure, panels = plt.subplots(2, 3, figsize=(WIDE * 1.2, 6.0), squeeze=False)
    for row, (what, words) in zip(panels, (("waiting", "events waiting"), ("lanes", "visitors")), strict=True):
        for axes, (name, unit) in zip(row, measures, strict=True):
            sizes = sorted({run["size"] for run in select(runs, what=what) if run.get(name) is not None})
            found = [spread(runs, name, what=what, size=size) or Spread(0, 0, 0) for size in sizes]
            _line(axes, sizes, found)
            axes.set_xscale("log")
            axes.set_ylim(bottom=0)
            axes.set_xlabel(words)
            axes.set_ylabel(unit)
    figure.tight_layout()
    return figure


def _line(axes: Any, sizes: Sequence[float], found: Sequence[Spread]) -> None:
    medians = [one.median for one in found]
    below = [one.median - one.least for one in found]
    above = [one.most - one.median for one in found]
    axes.errorbar(sizes, medians, yerr=[below, above], marker="o", color=OURS_COLOUR, capsize=3)
    axes.yaxis.set_major_formatter(FuncFormatter(_plain))


def _drain(runs: Runs) -> Any:
    drained = [run for run in runs if "delivered" in run]
    if not drained:
        return None
    run = drained[0]
    seconds, delivered = run["seconds"], run["delivered"]
    figure, (speed, held) = plt.subplots(2, 1, figsize=(WIDE, 5.0), sharex=True)
    steps = range(1, len(seconds))
    rates = [(delivered[at] - delivered[at - 1]) / (seconds[at] - seconds[at - 1]) for at in steps]
    speed.plot(seconds[1:], rates, color=OURS_COLOUR, linewidth=1)
    speed.set_ylim(bottom=0)
    speed.set_ylabel("events a second")
    speed.yaxis.set_major_formatter(FuncFormatter(_plain))
    held.plot(seconds, run["rss_megabytes"], color=OURS_COLOUR, label="the workers")
    held.plot(seconds, run["redis_megabytes"], color=REDIS_COLOUR, label="Redis")
    held.set_ylim(bottom=0)
    held.set_ylabel("memory, MB")
    held.set_xlabel("seconds since the drain began, with 1,000,000 events waiting")
    held.yaxis.set_major_formatter(FuncFormatter(_plain))
    held.legend()
    return figure


def _bars(axes: Any, names: Sequence[str], figures: Sequence[Spread], digits: int = 0) -> None:
    """A bar each, ours in its colour, the spread over it, the median beside it."""
    places = range(len(names))
    axes.barh(places, [one.median for one in figures], color=[_colour(name) for name in names], height=0.7)
    errors = [[one.median - one.least for one in figures], [one.most - one.median for one in figures]]
    axes.errorbar(
        [one.median for one in figures], places, xerr=errors, fmt="none", ecolor="black", capsize=2, linewidth=0.8
    )
    for place, one in zip(places, figures, strict=True):
        axes.annotate(
            f"{one.median:,.{digits}f}",
            (one.most, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    axes.set_xlim(0, max(one.most for one in figures) * 1.12)


def _colour(name: str) -> str:
    if name.startswith("Insend Relay"):
        return OURS_COLOUR
    return NONE_COLOUR if "no queue" in name or name == "bare RPUSH" else OTHERS_COLOUR


def _plain(value: float, _: int) -> str:
    return f"{value:,.6g}"


_PLOTS: dict[str, dict[str, Callable[[Runs], Any]]] = {
    "throughput": {"throughput": _throughput, "cpu": _cpu},
    "enqueue": {"enqueue": _enqueue},
    "idle": {"idle": _idle},
    "memory": {"memory": _memory},
    "tuned": {"tuned": _tuned},
    "growth": {"growth": _growth, "drain": _drain},
}
