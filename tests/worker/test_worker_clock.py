"""A worker whose Redis's clock steps while POSTs are in flight: everything is delivered, in order, without waiting."""

from __future__ import annotations

import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import redis
from delivering import Append, WorkerProcess, drained
from faketime import HOUR, ClockedRedis, clocked_redis
from waiting import PATIENCE_SECONDS, wait_until

from insend_relay.console.sandbox.sandbox import Sandbox
from insend_relay.outbox.connection import connect
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox

MINUTE = 60
VISITORS, EVENTS = 100, 5


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClockedRedis]:
    """A server whose clock can be set."""
    with clocked_redis(tmp_path_factory.mktemp("clocked"), config={"appendonly": "no"}) as server:
        yield server


@pytest.fixture
def client(server: ClockedRedis) -> Iterator[redis.Redis]:
    """Its client, in the place of the one that other tests use."""
    with connect(server.url, timeout_seconds=60) as client:
        yield client


@pytest.fixture
def settings(settings: Settings, server: ClockedRedis) -> Settings:
    """The worker's settings, for this server."""
    return replace(settings, redis_url=server.url)


@pytest.mark.parametrize("step", [-HOUR, -MINUTE, MINUTE, HOUR])
def test_a_step_of_redis_clock_with_posts_in_flight_stops_no_delivery(
    step: int,
    append: Append,
    start_worker: Callable[..., WorkerProcess],
    outbox: Outbox,
    sandbox: Sandbox,
    server: ClockedRedis,
) -> None:
    sandbox.misbehave(delay=0.1)
    for number in range(EVENTS):
        for visitor in range(VISITORS):
            append(str(visitor), number)
    start_worker()
    wait_until(lambda: len(sandbox.requests) > VISITORS // 2)
    server.step(step)
    append("after", 0)
    books = drained(outbox)
    assert (books["delivered"], books.get("dead", 0)) == (VISITORS * EVENTS + 1, 0)
    posted = Counter((request.visitor_uid, request.properties["number"]) for request in sandbox.requests)
    again = posted.total() - len(posted)
    assert again <= books.get("duplicates_possible", 0)
    if step < 0:
        assert again == 0, "a lease that is pulled back is no lease that is over"
    first_arrivals: dict[str, list[int]] = defaultdict(list)
    for uid, event in posted:
        first_arrivals[uid].append(event)
    assert all(numbers == sorted(numbers) for numbers in first_arrivals.values())


def test_what_waits_while_no_worker_runs_is_delivered_after_a_step_back(
    append: Append,
    start_worker: Callable[..., WorkerProcess],
    outbox: Outbox,
    sandbox: Sandbox,
    server: ClockedRedis,
) -> None:
    sandbox.misbehave(status=500, times=1)
    append("1", 1)
    first = start_worker(retry_first_seconds=1_000, retry_max_seconds=1_000)
    wait_until(lambda: outbox.read("HEXISTS", outbox.keys.trying, str(Lane("app1", "v", "1"))))
    first.end()
    server.step(-HOUR)
    worker = start_worker()
    assert drained(outbox)["delivered"] == 1
    assert "what was scheduled too far ahead is due again: 1 visitors, 1 apps" in worker.log.read_text()


def test_after_a_step_back_the_log_tells_when_another_fault_takes_the_place_of_the_one_that_began_a_pause(
    append: Append,
    start_worker: Callable[..., WorkerProcess],
    outbox: Outbox,
    sandbox: Sandbox,
    server: ClockedRedis,
) -> None:
    for visitor in range(6):
        append(str(visitor), 0)
    sandbox.misbehave(status=503)
    worker = start_worker(processes=1, outage_first_seconds=0.01, outage_max_seconds=0.02)
    wait_until(lambda: "paused, nothing is lost" in worker.log.read_text())
    server.step(-HOUR)
    sandbox.misbehave(status=401)
    wait_until(lambda: "still paused, and now the tracker answers: 401" in worker.log.read_text())
    sandbox.behave()
    drained(outbox)


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_a_worker_stops_although_redis_ends_no_wait_after_a_step_back(
    pool: str, start_worker: Callable[..., WorkerProcess], client: redis.Redis, server: ClockedRedis
) -> None:
    """Its broker's connection waits for a message, a second by Redis's clock, which is now an hour and a second."""
    worker = start_worker(pool=pool, stop_seconds=4)
    worker.wait_ready()
    wait_until(lambda: any(one["cmd"] == "brpop" and "b" in one["flags"] for one in client.client_list()))
    server.step(-HOUR)
    worker.signal(signal.SIGTERM, group=False)
    assert worker.process.wait(PATIENCE_SECONDS) == 0, worker.log.read_text()
