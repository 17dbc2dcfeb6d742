"""The faults: each does its harm to a run, waits, and undoes it.

Their names begin with what they break. ``FAULTS`` has all; a run does them in a random order.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import redis
from chaos_proxy import Mode, Proxy
from chaos_run import LEASE_SECONDS, Run
from chaos_tracker import MODES

from insend_relay.outbox.connection import connect

Fault = Callable[[Run], None]
FAULTS: dict[str, Fault] = {}


def fault(name: str) -> Callable[[Fault], Fault]:
    """Give a fault its name."""

    def named(act: Fault) -> Fault:
        FAULTS[name] = act
        return act

    return named


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


# Processes


@fault("worker: pool child killed")
def _(run: Run) -> None:
    children = [child for process in run.workers.running for child in _children(process.pid)]
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


@fault("redis: full")
def _(run: Run) -> None:
    _told(run, "CONFIG", "SET", "maxmemory", "1")
    time.sleep(2)
    _told(run, "CONFIG", "SET", "maxmemory", "0")


# Network


def _network(name: str, which: Callable[[Run], Proxy]) -> None:
    def becomes(mode: Mode, seconds: float) -> Fault:
        def act(run: Run) -> None:
            proxy = which(run)
            run.run(proxy.become(mode))
            time.sleep(seconds)
            run.in_loop(proxy.cut)
            run.run(proxy.become("pass"))

        return act

    def cut(run: Run) -> None:
        for _ in range(4):
            run.in_loop(which(run).cut)
            time.sleep(0.2)

    FAULTS[f"network: {name} cut"] = cut
    FAULTS[f"network: {name} delayed"] = becomes("delay", 2)
    FAULTS[f"network: {name} half open"] = becomes("half", 2)
    FAULTS[f"network: {name} swallowed"] = becomes("blackhole", 2)
    FAULTS[f"network: {name} refused"] = becomes("refuse", 1)


_network("producer to redis", lambda run: run.producers_redis)
_network("worker to redis", lambda run: run.workers_redis)
_network("worker to tracker", lambda run: run.workers_tracker)


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
