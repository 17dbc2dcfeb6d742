"""Faults of what stands before the tracker, a NAT gateway or a load balancer: connections die without a word.

Each begins with a burst that leaves many connections open. Then traffic is light, an event at a time, so that a worker
that used one dead connection after another would be seen: by an event that is late, and by how many were used.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from chaos_fault import Fault, fault
from chaos_proxy import Death
from chaos_run import DRAIN_SECONDS, Run
from chaos_worker import IDLE_SECONDS

BURST, LIGHT = 200, 4
PROCESSES = {"prefork": 3, "threads": 1, "gevent": 1}  # of a worker that post; each has connections of its own


@contextmanager
def _producers_stopped(run: Run) -> Iterator[None]:
    """Only what the run itself sends is there to be delivered."""
    for at in range(2):
        run.producers.send(at, signal.SIGSTOP)
    try:
        if not run.with_workers(lambda: run.waiting == 0, DRAIN_SECONDS * run.patience):
            run.wrong.append(f"{run.waiting} events wait although the producers were stopped long ago")
        yield
    finally:
        for at in range(2):
            run.producers.send(at, signal.SIGCONT)


def _burst(run: Run) -> None:
    run.tracker.mode = "slow"
    run.must_deliver(run.sender.new_visitors(BURST), "after a burst")
    run.tracker.mode = "ok"


def _light_traffic(run: Run, death: Death, most_dead: int) -> None:
    """Some events, each when the one before is delivered."""
    proxies = run.workers_tracker, run.workers_tls
    before = sum(proxy.dead_uses for proxy in proxies)
    for _ in range(LIGHT):
        run.must_deliver(run.sender.new_visitors(), f"although only connections from before are {death}")
    used = sum(proxy.dead_uses for proxy in proxies) - before
    if used > most_dead:
        run.wrong.append(f"{used} connections that were {death} were used for {LIGHT} events, not at most {most_dead}")


def _dying(death: Death) -> Fault:
    def act(run: Run) -> None:
        """First all that are open die, then each that has been idle for longer than a worker keeps it."""
        proxies = run.workers_tracker, run.workers_tls
        with _producers_stopped(run):
            _burst(run)
            for proxy in proxies:
                proxy.death = death
                run.in_loop(proxy.let_die)
            _light_traffic(run, death, sum(PROCESSES[pool] for pool in run.pool.values()))
            idle_seconds = IDLE_SECONDS + run.patience
            for proxy in proxies:
                proxy.idle_seconds = idle_seconds
            time.sleep(idle_seconds)
            _light_traffic(run, death, 0)
        for proxy in proxies:
            proxy.idle_seconds = None
            run.in_loop(proxy.cut)

    return act


fault("network: idle connections to tracker forgotten")(_dying("forgotten"))
fault("network: idle connections to tracker reset")(_dying("reset"))
