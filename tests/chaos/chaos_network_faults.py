"""Faults of the network: what passes a proxy, and what the names of its hosts lead to."""

from __future__ import annotations

import time
from collections.abc import Callable

from chaos_fault import FAULTS, Fault, fault
from chaos_processes import wait_for
from chaos_proxy import Mode, Proxy
from chaos_resolver import HALF_DEAD, HANGS
from chaos_run import DELIVERY_SECONDS, LEASE_SECONDS, Run
from two_addresses import swallowing


def _network(name: str, which: Callable[[Run], tuple[Proxy, ...]]) -> None:
    def becomes(mode: Mode, seconds: float) -> Fault:
        def act(run: Run) -> None:
            proxies = which(run)
            for proxy in proxies:
                run.run(proxy.become(mode))
            time.sleep(seconds)
            for proxy in proxies:
                run.in_loop(proxy.cut)
                run.run(proxy.become("pass"))

        return act

    def cut(run: Run) -> None:
        for _ in range(4):
            for proxy in which(run):
                run.in_loop(proxy.cut)
            time.sleep(0.2)

    FAULTS[f"network: {name} cut"] = cut
    FAULTS[f"network: {name} delayed"] = becomes("delay", 2)
    FAULTS[f"network: {name} half open"] = becomes("half", 2)
    FAULTS[f"network: {name} swallowed"] = becomes("blackhole", 2)
    FAULTS[f"network: {name} refused"] = becomes("refuse", 1)


def _to_tracker(run: Run) -> tuple[Proxy, ...]:
    """One worker's way, or the other's, or both."""
    plain, tls = run.workers_tracker, run.workers_tls
    return run.chances.choice(((plain,), (tls,), (plain, tls)))


_network("producer to redis", lambda run: (run.producers_redis,))
_network("worker to redis", lambda run: (run.workers_redis,))
_network("worker to tracker", _to_tracker)


@fault("network: a resolver that never answers")
def _(run: Run) -> None:
    hangs = run.folder / HANGS
    hangs.touch()
    for proxy in (run.workers_tracker, run.workers_tls):
        run.in_loop(proxy.cut)  # an open connection needs no lookup
    time.sleep(run.chances.choice((2.0, LEASE_SECONDS + 1)))
    hangs.unlink()


@fault("network: a first address that swallows packets")
def _(run: Run) -> None:
    """Of the tracker and of Redis; the second one works, so that connections are opened all the same."""
    half_dead = run.folder / HALF_DEAD
    with swallowing() as port:
        half_dead.with_suffix(".new").write_text(str(port))
        half_dead.with_suffix(".new").rename(half_dead)
        for proxy in run.proxies:
            run.in_loop(proxy.cut)
        before = run.logs.read().in_redis
        if not wait_for(lambda: run.logs.read().in_redis > before, DELIVERY_SECONDS * run.patience):
            run.wrong.append("no producer gets through to a Redis whose first address swallows packets")
        for proxy in (run.workers_tracker, run.workers_tls):
            run.in_loop(proxy.cut)
        run.must_deliver(run.sender.new_visitors(20), "although only first addresses swallow packets")
        half_dead.unlink()
