"""The faults: each does its harm to a run, waits, and undoes it.

``FAULTS`` has all, those of the modules ``chaos_*_faults`` too; a run does them in a random order.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from contextlib import suppress

import chaos_clock_faults  # noqa: F401 - its faults join the list
import chaos_front_faults  # noqa: F401 - likewise
import chaos_network_faults  # noqa: F401 - likewise
import redis
from chaos_certificates import BAD, GOOD
from chaos_fault import FAULTS, Fault, fault
from chaos_processes import children_of, wait_for
from chaos_proxy import Mode
from chaos_run import LEASE_SECONDS, POOLS, POST_SECONDS, STOP_SECONDS, Run
from chaos_tracker import MODES
from chaos_worker import POISONINGS

from insend_relay.outbox.connection import connect
from insend_relay.worker.runtime import EX_SOFTWARE, LAST_SECONDS

__all__ = ["FAULTS", "Fault"]

TRACKER_AWAY: tuple[Mode, ...] = ("refuse", "blackhole", "half")
HUNG_SECONDS = 2.0  # how soon a pump calls its pool hung in the fault that is about this; a pool is up in one


# Processes


@fault("worker: pool child killed")
def _(run: Run) -> None:
    children = [child for process in run.workers.running for child in children_of(process.pid)]
    if children:
        with suppress(ProcessLookupError):
            os.kill(run.chances.choice(children), signal.SIGKILL)


@fault("worker: main process killed")
def _(run: Run) -> None:
    run.workers.send(run.chances.randrange(2), signal.SIGKILL)


@fault("worker: group killed")
def _(run: Run) -> None:
    run.workers.send(run.chances.randrange(2), signal.SIGKILL, group=True)


@fault("workers: all killed")
def _(run: Run) -> None:
    for at in range(2):
        run.workers.send(at, signal.SIGKILL, group=True)


@fault("workers: all killed while the tracker is away, and started after it is back")
def _(run: Run) -> None:
    """A breaker that a dead fleet has opened must not hold up the next fleet, nor must the leases of the dead."""
    proxies, how = (run.workers_tracker, run.workers_tls), run.chances.choice(TRACKER_AWAY)
    for proxy in proxies:
        run.run(proxy.become(how))
    time.sleep(2 * POST_SECONDS)  # the breaker is open, and probes are sent
    for at in range(2):
        run.workers.send(at, signal.SIGKILL, group=True)
    events = run.sender.new_visitors(20)
    time.sleep(run.chances.choice((1.0, LEASE_SECONDS + 1)))
    for proxy in proxies:
        run.in_loop(proxy.cut)
        run.run(proxy.become("pass"))
    run.must_deliver(events, "after the tracker is back and workers are started")


@fault("worker: stopped for a moment")
def _(run: Run) -> None:
    _frozen(run, run.chances.randrange(2), 1.0)


@fault("worker: stopped past its lease")
def _(run: Run) -> None:
    _frozen(run, run.chances.randrange(2), LEASE_SECONDS + 1)


def _frozen(run: Run, at: int, seconds: float) -> None:
    run.workers.send(at, signal.SIGSTOP, group=True)
    try:
        time.sleep(seconds)
    finally:
        run.workers.send(at, signal.SIGCONT, group=True)


@fault("producer: killed in mid-call")
def _(run: Run) -> None:
    run.producers.send(run.chances.randrange(2), signal.SIGKILL)


@fault("producer: stopped for a moment")
def _(run: Run) -> None:
    at = run.chances.randrange(2)
    run.producers.send(at, signal.SIGSTOP)
    time.sleep(1)
    run.producers.send(at, signal.SIGCONT)


def _shutdown(number: signal.Signals, *, group: bool, times: int = 1) -> Fault:
    def act(run: Run) -> None:
        at = run.chances.randrange(2)
        for _ in range(times):
            run.workers.send(at, number, group=group)
            time.sleep(0.3)

    return act


for _number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
    FAULTS[f"shutdown: {_number.name}"] = _shutdown(_number, group=False)
    FAULTS[f"shutdown: {_number.name} to the group"] = _shutdown(_number, group=True)
FAULTS["shutdown: SIGTERM twice"] = _shutdown(signal.SIGTERM, group=False, times=2)
FAULTS["shutdown: SIGINT twice to the group"] = _shutdown(signal.SIGINT, group=True, times=2)


# Redis


@fault("redis: killed and restarted")
def _(run: Run) -> None:
    run.redis.kill()
    time.sleep(0.5)
    run.redis.start()


@fault("redis: restarted under load")
def _(run: Run) -> None:
    run.redis.stop()
    run.redis.start()


@fault("redis: slow to load")
def _(run: Run) -> None:
    run.redis.kill()
    run.redis.config["key-load-delay"] = "-50"  # a moment at every fiftieth command: a file may have millions
    try:
        run.redis.start()
    finally:
        del run.redis.config["key-load-delay"]


@fault("redis: frozen")
def _(run: Run) -> None:
    os.kill(run.redis.pid, signal.SIGSTOP)
    try:
        time.sleep(run.chances.choice((0.5, 3.0, 10.0)))
    finally:
        os.kill(run.redis.pid, signal.SIGCONT)


def _told(run: Run, *command: str) -> None:
    with connect(run.redis.url, timeout_seconds=30) as client, suppress(redis.RedisError):
        client.execute_command(*command)


@fault("redis: clients killed")
def _(run: Run) -> None:
    for _ in range(3):
        _told(run, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        time.sleep(0.2)


@fault("redis: scripts flushed")
def _(run: Run) -> None:
    _told(run, "SCRIPT", "FLUSH")


@fault("redis: disk takes no more")
def _(run: Run) -> None:
    """Under ``always`` Redis ends when it cannot write, and its supervisor starts it; else it refuses until it can."""
    size = (run.redis.folder / "appendonly.aof").stat().st_size
    before = resource.prlimit(run.redis.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(run.redis.pid, resource.RLIMIT_FSIZE, (size + run.chances.choice((1, 1_000, 10_000)), before[1]))
    if not wait_for(lambda: not run.redis.alive, 2):
        resource.prlimit(run.redis.pid, resource.RLIMIT_FSIZE, before)
    if wait_for(lambda: not run.redis.alive, 0.1 * run.patience):  # also when the last write before that had failed
        run.redis.start()


@fault("redis: full")
def _(run: Run) -> None:
    _told(run, "CONFIG", "SET", "maxmemory", "1")
    time.sleep(2)
    _told(run, "CONFIG", "SET", "maxmemory", "0")


# Tracker


def _tracker(mode: str) -> Fault:
    def act(run: Run) -> None:
        run.tracker.mode = mode
        time.sleep(2)
        run.tracker.mode = "ok"

    return act


for _mode in MODES:
    if _mode != "ok":
        FAULTS[f"tracker: {_mode}"] = _tracker(_mode)


@fault("tracker: bad certificate")
def _(run: Run) -> None:
    for name in (run.chances.choice(BAD), GOOD):
        run.tracker.certificate = name
        run.in_loop(run.workers_tls.cut)  # only a new connection is shown it
        time.sleep(2 if name != GOOD else 0)


# Events and releases


@fault("event: kills its worker again and again")
def _(run: Run) -> None:
    """One in a lane of its own, and one between others of its person; many are under way beside them."""
    run.tracker.mode = "slow"
    alone, amid = (f"deadly-{run.done.total()}-{which}" for which in "ab")
    run.sender.send([alone], 1, deadly_from=0)
    run.sender.send([amid], 4, deadly_from=1)
    time.sleep(1.5)
    run.tracker.mode = "ok"


@fault("producer: of a newer release for a while")
def _(run: Run) -> None:
    at = run.chances.randrange(2)
    run.newer_producers.add(at)
    run.producers.restart(at, signal.SIGTERM)
    time.sleep(2)
    run.newer_producers.clear()
    run.producers.restart(at, signal.SIGTERM)


# A clean stop, whatever is under way


LEAVING = "CRITICAL/MainProcess] leaving: "  # as a worker says it whose pool hangs


def _started(run: Run, pool: str) -> int:
    """A worker with this pool that does its work; started when none has it.

    One that an earlier fault has told to stop may still be leaving, held up by a Redis that did not answer then.
    """
    for at, its in run.pool.items():
        if its == pool and run.workers.stays(at) and LEAVING not in run.log_of(at):
            run.working(at)  # it may just be starting: then SIGTERM ends it as it ends any Python
            return at
    at = run.chances.randrange(2)
    run.pools[at] = pool
    run.workers.restart(at, signal.SIGTERM)
    run.working(at)
    return at


def _next_pool(run: Run, name: str) -> str:
    """All pools in turn, beginning by chance."""
    return POOLS[(run.seed + run.done[name]) % len(POOLS)]


def _stops_in_time(run: Run, what: str, at: int) -> None:
    """It must leave by itself: POSTs get INSEND_STOP_SECONDS, and whatever else holds it up four seconds more."""
    run.workers.send(at, signal.SIGTERM)
    if not run.workers.left(at, (STOP_SECONDS + LAST_SECONDS + 2) * run.patience):
        run.wrong.append(f"a worker ({run.pool[at]}) does not leave when told to {what}")
    elif run.workers[at].returncode and not _killed_by_event(run, at):
        said = run.log_of(at)[-8_000:]
        run.wrong.append(f"a worker ({run.pool[at]}) left with {run.workers[at].returncode} {what}; it wrote: {said}")


def _killed_by_event(run: Run, at: int) -> bool:
    """Whether it was just posting an event that kills its worker: outside prefork that is the worker itself."""
    log = run.folder / POISONINGS
    killed = {int(line.split()[1]) for line in log.read_text().splitlines()} if log.exists() else set()
    return run.workers[at].returncode == -signal.SIGKILL and run.workers[at].pid in killed


@fault("shutdown: SIGTERM while posting")
def _(run: Run) -> None:
    at = _started(run, _next_pool(run, "shutdown: SIGTERM while posting"))
    run.tracker.mode = "slow"
    time.sleep(0.4)
    _stops_in_time(run, "while it posts", at)
    run.tracker.mode = "ok"


@fault("shutdown: SIGTERM while claiming and settling")
def _(run: Run) -> None:
    at = _started(run, _next_pool(run, "shutdown: SIGTERM while claiming and settling"))
    run.run(run.workers_redis.become("delay"))
    time.sleep(0.4)
    _stops_in_time(run, "while Redis is slow", at)
    run.run(run.workers_redis.become("pass"))


# Pools that hang


def _pools_frozen_and_left(run: Run) -> bool:
    """Freeze what pools have by now (a poisoned event may have made room for a new process); whether all have left."""
    for child in (child for process in run.workers.running for child in children_of(process.pid)):
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGSTOP)
    return all(process.poll() is not None for process in run.workers.running)


@fault("workers: pools that hang, and an app that is only paused")
def _(run: Run) -> None:
    """A hung worker leaves by itself; one with nothing to claim stays, however long an operator's pause lasts."""
    hung_seconds = run.hung_seconds = HUNG_SECONDS * run.patience
    for at in range(2):
        run.pools[at] = "prefork"
        run.workers.restart(at, signal.SIGTERM)
    for at in range(2):
        run.working(at)
    run.hung_seconds = None
    run.outbox.pause("chaos")
    time.sleep(2 * hung_seconds + 1.5)
    run.wrong += [f"worker {at} leaves because its app is paused" for at in range(2) if "leaving" in run.log_of(at)]
    run.outbox.resume("chaos")
    time.sleep(0.2)
    wait_for(lambda: _pools_frozen_and_left(run), (2 * HUNG_SECONDS + STOP_SECONDS + LAST_SECONDS + 6) * run.patience)
    for at in range(2):
        if run.workers[at].poll() is None:
            run.wrong.append(f"worker {at} did not notice that its pool hangs")
        elif run.workers[at].returncode != EX_SOFTWARE:
            run.wrong.append(f"worker {at} left with {run.workers[at].returncode} although its pool hung")
