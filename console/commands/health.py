"""``insend health``: the liveness probe of the workers of this machine.

A probe runs every few seconds beside the worker, so this loads neither rich nor redis.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from insend_relay.console.commands.exits import FINDING
from insend_relay.outbox.settings import Settings
from insend_relay.worker.health import ANSWER_SECONDS, Health, ask_all


@click.command(epilog="Example: insend health")
@click.option("--json", "as_json", is_flag=True, help="JSON, for a program.")
def health(*, as_json: bool) -> None:
    """Whether the workers of this machine make progress: the liveness probe for Kubernetes and Docker.

    It judges the processes only, and asks neither Redis nor the tracker: a Redis that is away and an app that is paused
    are healthy. Exit code 1 when a worker hangs, or when none runs here.
    """
    if sys.platform != "linux":
        raise click.UsageError("this command works on Linux only")
    namespace = Settings.from_env().namespace
    workers = list(ask_all(namespace))
    healthy = bool(workers) and all(worker.good for worker in workers)
    if as_json:
        shown = [{**asdict(worker), "healthy": worker.good} for worker in workers]
        click.echo(json.dumps({"healthy": healthy, "workers": shown}))
    else:
        click.echo(_headline(workers, namespace, healthy=healthy))
        for worker in workers:
            click.echo(f"  {_line(worker)}")
    if not healthy:
        raise click.exceptions.Exit(FINDING)


def _headline(workers: list[Health], namespace: str, *, healthy: bool) -> str:
    if not workers:
        return f"NO WORKER of the namespace {namespace} runs on this machine: start `insend worker`"
    if not healthy:
        return "HUNG: a worker makes no progress: restart it; no event is lost"
    return f"OK: {len(workers)} worker{'s make' if len(workers) > 1 else ' makes'} progress"


def _line(worker: Health) -> str:
    if not worker.answers:
        return f"a worker does not answer within {ANSWER_SECONDS:g} s"
    if worker.stopping:
        return f"worker {worker.pid}: stopping"
    if worker.pump_stuck:
        return f"worker {worker.pid}: its pump has made no progress for {worker.pump_seconds:.0f} s"
    if worker.stuck_processes:
        stuck = ", ".join(f"{pid} for {worker.delivery_seconds[pid]:.0f} s" for pid in worker.stuck_processes)
        return f"worker {worker.pid}: its delivery has made no progress in process {stuck}"
    count = len(worker.delivery_seconds)
    delivers = f"delivers in {count} process{'es' if count > 1 else ''}" if count else "waits for events"
    return f"worker {worker.pid}: pump {worker.pump_seconds:.1f} s ago, {delivers}"
