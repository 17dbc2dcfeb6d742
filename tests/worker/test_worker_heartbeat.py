"""A worker process says that it is alive until it stops, and reports books that have jumped back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from delivering import APP, WorkerProcess, drained, payload
from lanes import now_ms
from waiting import PATIENCE_SECONDS, wait_until

from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.operations.jumps import read_jumps
from insend_relay.outbox.connection import connect
from insend_relay.outbox.heartbeat import NO_WORKERS, Workers, read_workers
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.record import new_id
from insend_relay.outbox.store import Outbox

StartWorker = Callable[..., WorkerProcess]


def workers(outbox: Outbox) -> Workers:
    return read_workers(outbox, now_ms(outbox))


def test_a_worker_is_alive_until_it_is_stopped(start_worker: StartWorker, outbox: Outbox) -> None:
    worker = start_worker()
    wait_until(lambda: workers(outbox).alive == 1)
    assert str(workers(outbox).last).endswith(f":{worker.process.pid}")
    worker.signal(signal.SIGTERM, group=False)
    assert worker.process.wait(PATIENCE_SECONDS) == 0, worker.log.read_text()
    assert workers(outbox) == NO_WORKERS


def test_a_worker_that_is_killed_is_named_afterwards(start_worker: StartWorker, outbox: Outbox) -> None:
    worker = start_worker()
    wait_until(lambda: workers(outbox).alive == 1)
    os.killpg(worker.process.pid, signal.SIGKILL)
    worker.process.wait()
    (name,) = outbox.read("ZRANGE", outbox.keys.workers, 0, -1)
    outbox.read("ZINCRBY", outbox.keys.workers, -60_000, name)
    found = workers(outbox)
    assert found.alive == 0
    assert str(found.last).endswith(f":{worker.process.pid}")


def test_a_worker_reports_that_redis_was_flushed_and_goes_on(tmp_path: Path, start_worker: StartWorker) -> None:
    with EmbeddedRedis(tmp_path / "flushed", server="redis") as server, connect(server.url) as client:
        outbox = Outbox(client)
        worker = start_worker(redis_url=server.url, namespace="insend")
        for number in range(3):
            outbox.append(Lane(APP, "v", "1"), new_id(), payload("1", number))
        drained(outbox)
        known = wait_until(lambda: outbox.read("GET", outbox.keys.epoch))
        before = outbox.read("ZSCORE", outbox.keys.workers, outbox.read("ZRANGE", outbox.keys.workers, 0, 0)[0])
        wait_until(  # until a heartbeat has seen the three
            lambda: (
                outbox.read("ZSCORE", outbox.keys.workers, outbox.read("ZRANGE", outbox.keys.workers, 0, 0)[0]) > before
            )
        )
        outbox.read("FLUSHALL")
        (jump,) = wait_until(lambda: read_jumps(outbox))
        assert (jump.accepted_before, jump.accepted_after, jump.waiting_before) == (3, 0, 0)
        assert outbox.read("GET", outbox.keys.epoch) != known
        wait_until(lambda: "Redis has lost events that it had accepted" in worker.log.read_text())
        outbox.append(Lane(APP, "v", "1"), new_id(), payload("1", 9))
        drained(outbox)
        assert worker.process.poll() is None
