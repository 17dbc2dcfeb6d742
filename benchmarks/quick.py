"""``make bench-quick``: ours beside its peers in short runs, one of each, for daily use. A table, and no page."""

from __future__ import annotations

from bench_figures import ratio
from enqueue import enqueue
from entrants import BARE_ENTRANT, CELERY_ENTRANT, LEAN_LOOP, QUEUES, RELAY_ENTRANT
from idle_latency import latencies
from machinery import Stub, percentile
from throughput import backlog, deliver

SECONDS = 1.5  # a backlog
CALLS = 1_000
IDLE_EVENTS = 10
HEAD = ("", "at 0 ms /s", "x Celery", "at 50 ms /s", "x Celery", "CPU ms", "enqueue p50 ms", "idle p50 ms")


def main() -> None:
    """Measure and print, a line as soon as it is known."""
    print(f"{HEAD[0]:34}" + "".join(f"{head:>16}" for head in HEAD[1:]), flush=True)
    base: dict[int, float] = {}  # plain Celery's, which comes first
    for entrant in (*QUEUES, RELAY_ENTRANT, LEAN_LOOP, BARE_ENTRANT):
        cells: list[str] = []
        cpu = "-"
        for delay_ms in (0, 50):
            if delay_ms not in entrant.setups:
                cells += ["-", "-"]
                continue
            with Stub() as stub:
                events = backlog(entrant, delay_ms, SECONDS)
                run = deliver(entrant, stub, delay_ms=delay_ms, lane=1, events=events)
            times = ratio(run.per_second, base.setdefault(delay_ms, run.per_second))
            cells += [f"{run.per_second:,.0f}", f"{times:.2f}"]
            cpu = f"{run.cpu_ms:.2f}" if delay_ms == 0 else cpu
        cells.append(cpu)
        cells.append(f"{enqueue(entrant, CALLS)['p50_ms']:.3f}" if entrant is not LEAN_LOOP else "-")
        idles = entrant in (RELAY_ENTRANT, CELERY_ENTRANT)
        cells.append(f"{percentile(latencies(entrant, IDLE_EVENTS)['post_ms'], 50):.1f}" if idles else "-")
        print(f"{entrant.name:34}" + "".join(f"{cell:>16}" for cell in cells), flush=True)
