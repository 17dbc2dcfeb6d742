"""What a real worker logs when something is wrong: enough to see it, and not a line for each failure."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from delivering import APP, Append, WorkerProcess, drained
from lanes import make_newer
from waiting import PATIENCE_SECONDS, wait_until

from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.console.sandbox.sandbox import Sandbox
from insend_relay.operations.status import read_status
from insend_relay.outbox.connection import connect
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.store import Outbox
from insend_relay.worker import event_log
from insend_relay.worker.log_limit import FIRST_OF_A_KIND

StartWorker = Callable[..., WorkerProcess]
NOTICES = ("DeprecationWarning", "In Celery", "prefetch count")


def test_an_event_that_fails_for_a_minute_gets_one_line_without_its_visitor(
    append: Append,
    delivering: Callable[..., Any],
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(event_log, "FAILING_SECONDS", 0.1)
    sandbox.misbehave(status=500, visitor_uid="visitor-of-mine")
    event_id = append("visitor-of-mine")
    with delivering(server_error_attempts=1_000_000, outage_lanes=1_000):
        wait_until(lambda: len(sandbox.requests) > 10)
    (line,) = (record.getMessage() for record in caplog.records if "has failed for" in record.getMessage())
    assert line.startswith(f"event {event_id[:8]}-")
    assert "the last: 500" in line
    assert "visitor-of-mine" not in line


def test_an_event_that_only_a_newer_worker_can_read_is_a_warning_without_its_visitor(
    append: Append, delivering: Callable[..., Any], outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    append("visitor-of-mine")
    make_newer(outbox, Lane(APP, "v", "visitor-of-mine"))
    with delivering():
        wait_until(lambda: "a newer release wrote the next event of some visitors (1)" in caplog.text)
    assert "visitor-of-mine" not in caplog.text


def test_a_breaker_that_flaps_is_a_few_lines_and_a_number(
    append: Append, start_worker: StartWorker, outbox: Outbox, sandbox: Sandbox
) -> None:
    worker = start_worker(processes=1)
    worker.wait_ready()
    changes = 3 * FIRST_OF_A_KIND
    for number in range(changes):
        sandbox.misbehave(status=503)
        for visitor in range(5):
            append(str(visitor), number)
        wait_until(lambda: read_status(outbox).paused)
        sandbox.behave()
        drained(outbox)
    worker.signal(signal.SIGTERM, group=False)
    worker.process.wait(PATIENCE_SECONDS)
    log = worker.log.read_text()
    for kind in ("the tracker takes nothing", "the tracker takes events again"):
        lines = [line for line in log.splitlines() if kind in line]
        more = [int(number) for line in lines for number in re.findall(r"\(this (\d+) times more within", line)]
        assert len(lines) - len(more) + sum(more) >= changes
        assert more, lines


def test_a_redis_that_is_read_only_is_a_few_lines(tmp_path: Path, start_worker: StartWorker, sandbox: Sandbox) -> None:
    with EmbeddedRedis(tmp_path / "replica", server="redis") as server, connect(server.url) as client:
        worker = start_worker(redis_url=server.url, namespace="insend", tracker_url=sandbox.url)
        worker.wait_ready()
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        wait_until(lambda: refusals(client) > 60)
        client.execute_command("REPLICAOF", "NO", "ONE")
        wait_until(lambda: "the outbox is back" in worker.log.read_text())
        log = worker.log.read_text()
    assert "the outbox is away" in log
    assert log.count("Cannot connect to redis://") <= FIRST_OF_A_KIND
    assert not any(notice in log for notice in NOTICES)


def test_a_redis_that_closes_connections_again_and_again_is_a_few_lines(
    tmp_path: Path, start_worker: StartWorker, sandbox: Sandbox
) -> None:
    with EmbeddedRedis(tmp_path / "closes", server="redis") as server, connect(server.url) as client:
        worker = start_worker(redis_url=server.url, namespace="insend", tracker_url=sandbox.url)
        worker.wait_ready()
        for _ in range(5 * FIRST_OF_A_KIND):
            seen = waits_of_celery(client)
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            wait_until(partial(waits_again, client, seen))
        log = worker.log.read_text()
    assert "Connection to broker lost" in log
    assert log.count("Connection to broker lost") <= FIRST_OF_A_KIND
    assert not any(notice in log for notice in NOTICES)


def refusals(client: redis.Redis) -> int:
    """How many commands Redis has refused because it is a replica."""
    found = client.info("errorstats").get("errorstat_READONLY", {"count": 0})
    return int(found["count"])


def waits_of_celery(client: redis.Redis) -> int:
    """How often Celery has waited for a message: each new connection does."""
    return int(client.info("commandstats").get("cmdstat_brpop", {"calls": 0})["calls"])


def waits_again(client: redis.Redis, before: int) -> bool:
    """Whether Celery has waited for a message since."""
    return waits_of_celery(client) > before
