"""Whole workers as processes: started, loaded, stopped, killed; what they write down and what they leave behind."""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import redis
from delivering import APP, Append, WorkerProcess, drained, ledger, payload
from lanes import come_due
from waiting import PATIENCE_SECONDS, wait_until

from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.console.sandbox.sandbox import Received, Sandbox
from insend_relay.operations.dead import DeadLetters, Filter
from insend_relay.operations.replay import Replay
from insend_relay.outbox.connection import connect
from insend_relay.outbox.entry import Entry
from insend_relay.outbox.errors import OutboxFull
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.lease import holder_of
from insend_relay.outbox.record import new_id
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.spool.spool import Spool
from insend_relay.worker.app import make_app

StartWorker = Callable[..., WorkerProcess]
SECRET = "kim.doe@example.com"


def more_than(sandbox: Sandbox, requests: int) -> bool:
    """Whether the sandbox has seen more requests than that."""
    return len(sandbox.requests) > requests


def in_order(events: list[Received]) -> bool:
    """Whether the first arrivals of each visitor's events came in order."""
    seen: dict[str, list[int]] = defaultdict(list)
    for event in events:
        number = event.properties["number"]
        if number not in seen[event.visitor_uid]:
            seen[event.visitor_uid].append(number)
    return all(numbers == sorted(numbers) for numbers in seen.values())


@pytest.mark.parametrize("group", [False, True], ids=["main process", "whole group"])
@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_a_worker_told_to_stop_under_load_loses_nothing_and_posts_nothing_twice(
    pool: str,
    group: bool,  # noqa: FBT001 - a parameter of the test
    append: Append,
    start_worker: StartWorker,
    outbox: Outbox,
    sandbox: Sandbox,
) -> None:
    sandbox.misbehave(delay=0.05)
    for number in range(20):
        for visitor in range(100):
            append(str(visitor), number)
    worker = start_worker(pool=pool)
    wait_until(lambda: len(sandbox.requests) > 50)
    worker.signal(signal.SIGTERM, group=group)
    assert worker.process.wait(PATIENCE_SECONDS) == 0, worker.log.read_text()
    books = ledger(outbox)
    posted = Counter((request.visitor_uid, request.properties["number"]) for request in sandbox.requests)
    assert max(posted.values()) == 1
    assert (books["delivered"], books["delivered"] + books["waiting"]) == (len(sandbox.requests), 2000)
    assert books.get("duplicates_possible", 0) == 0
    assert outbox.read("HLEN", outbox.keys.lease) == 0


def test_a_call_that_does_not_end_is_cut_at_shutdown_and_marked(
    append: Append, start_worker: StartWorker, outbox: Outbox, sandbox: Sandbox
) -> None:
    sandbox.misbehave(delay=3_600)
    append("1", 1)
    worker = start_worker(stop_seconds=4)
    wait_until(lambda: len(sandbox.requests) == 1)
    worker.signal(signal.SIGTERM, group=False)
    assert worker.process.wait(PATIENCE_SECONDS) == 0, worker.log.read_text()
    assert outbox.read("HLEN", outbox.keys.lease) == 0
    assert (ledger(outbox)["waiting"], ledger(outbox)["duplicates_possible"]) == (1, 1)


def test_a_worker_that_is_killed_under_load_loses_nothing_and_its_duplicates_were_marked_before(
    append: Append, start_worker: StartWorker, outbox: Outbox
) -> None:
    ids = {(str(visitor), number): append(str(visitor), number) for number in range(20) for visitor in range(100)}
    posted: Counter[tuple[str, int]] = Counter()
    unmarked: list[str] = []
    counting = threading.Lock()

    def witness(request: Received) -> None:
        """Called before the tracker answers: an event that is posted again has its mark by now."""
        event = request.visitor_uid, request.properties["number"]
        with counting:
            posted[event] += 1
            again = posted[event] > 1
        if again and outbox.read("ZSCORE", outbox.keys.doubtful, bytes.fromhex(ids[event])) is None:
            unmarked.append(ids[event])

    with Sandbox(on_event=witness) as sandbox:
        for _ in range(3):
            before = len(sandbox.requests)
            worker = start_worker(tracker_url=sandbox.url)
            wait_until(partial(more_than, sandbox, before + 200))
            worker.signal(signal.SIGKILL, group=True)
            worker.process.wait()
            for lane in outbox.read("HKEYS", outbox.keys.lease):
                come_due(outbox, Lane.parse(lane.decode()))  # as if the killed worker's leases had run out
        start_worker(tracker_url=sandbox.url)
        books = drained(outbox)
        assert set(posted) == set(ids)
        assert in_order(sandbox.received)
    assert unmarked == []
    assert (books["accepted"], books["delivered"], books.get("dead", 0)) == (2000, 2000, 0)


def test_no_event_data_shows_in_messages_logs_or_command_lines(
    append: Append, start_worker: StartWorker, outbox: Outbox, sandbox: Sandbox, client: redis.Redis, namespace: str
) -> None:
    append("2", 0)
    sandbox.misbehave(status=400, visitor_uid="visitor-of-mine")
    worker = start_worker(rejected_attempts=2)
    worker.wait_ready()
    drained(outbox)
    for number in range(5):
        append("visitor-of-mine", type="mailto", email=SECRET, number=number)
    append("2", 1)
    drained(outbox)
    uid = "visitor-of-mine"
    family = [path for path in Path("/proc").glob("[0-9]*") if _group_of(path) == worker.process.pid]
    lines = " ".join((path / "cmdline").read_bytes().decode() + (path / "comm").read_text() for path in family)
    assert "insend" in lines
    worker.signal(signal.SIGTERM, group=False)
    worker.process.wait()
    text = worker.log.read_text()  # only now has it written all: the ledger is ahead of the log
    assert text.count("is a dead letter: 400") == 5
    append(uid, type="mailto", email=SECRET)
    make_app(Settings(redis_url=_url(client), namespace=namespace)).send_task("worker.deliver")
    messages = client.lrange(f"{namespace}:celery:insend", 0, -1)
    assert len(messages) >= 1
    for seen in (text, lines, *map(str, messages)):
        assert SECRET not in seen
        assert uid not in seen


def _group_of(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[2])
    except (OSError, ValueError):
        return 0


def _url(client: redis.Redis) -> str:
    return f"redis://127.0.0.1:{client.connection_pool.connection_kwargs['port']}/0"


def fill(outbox: Outbox) -> int:
    """Append events that compression makes little smaller until Redis is full; how many it took."""
    for accepted in range(100_000):
        uid, number = str(accepted % 50), accepted // 50
        data = payload(uid, number).replace(
            b'"seen"', b'"seen","filler":"' + secrets.token_urlsafe(675).encode() + b'"'
        )
        try:
            outbox.append(Lane(APP, "v", uid), new_id(), data)
        except OutboxFull:
            return accepted
    raise AssertionError("Redis never became full")


def test_a_full_redis_refuses_producers_clearly_and_a_worker_drains_it(
    tmp_path: Path, start_worker: StartWorker, sandbox: Sandbox
) -> None:
    with (
        EmbeddedRedis(tmp_path / "full", server="redis", config={"maxmemory": "6mb", "appendonly": "no"}) as server,
        connect(server.url) as client,
    ):
        outbox = Outbox(client)
        accepted = fill(outbox)
        start_worker(redis_url=server.url, namespace="insend")
        books = drained(outbox)
        assert accepted > 500
        assert (books["accepted"], books["delivered"]) == (accepted, accepted)
        assert in_order(sandbox.received)
        assert len(sandbox.requests) == accepted


@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_events_flow_while_the_broker_is_away(
    pool: str, append: Append, start_worker: StartWorker, outbox: Outbox, sandbox: Sandbox
) -> None:
    for number in range(10):
        append("1", number)
    for visitor in range(300):
        append(f"other-{visitor}")
    start_worker(broker_url="redis://127.0.0.1:1/0", pool=pool)
    drained(outbox)
    assert [r.properties["number"] for r in sandbox.requests if r.visitor_uid == "1"] == list(range(10))


def test_a_replay_runs_as_a_celery_task_and_queues_up_again_until_it_is_done(
    append: Append, start_worker: StartWorker, outbox: Outbox, sandbox: Sandbox, settings: Settings
) -> None:
    append("ok")
    worker = start_worker(rejected_attempts=1, replay_per_second=20)
    drained(outbox)
    sandbox.misbehave(status=400, visitor_uid="1")
    sandbox.misbehave(status=400, visitor_uid="2")
    for number in range(30):
        append("1", number)
        append("2", number)
    drained(outbox)
    assert DeadLetters(outbox).count(Filter()) == 60
    sandbox.behave()
    run = Replay.start(outbox, Filter(visitor="1"))
    make_app(settings).send_task("worker.replay", args=[run.id])
    wait_until(lambda: run.progress().delivered == 30)
    assert [r.properties["number"] for r in sandbox.received if r.visitor_uid == "1"] == list(range(30))
    assert DeadLetters(outbox).count(Filter()) == 30
    assert worker.process.poll() is None


def test_a_replay_goes_on_although_its_worker_was_killed_with_its_message(
    append: Append, start_worker: StartWorker, outbox: Outbox, sandbox: Sandbox
) -> None:
    append("ok")
    worker = start_worker(rejected_attempts=1, replay_per_second=1)
    drained(outbox)
    sandbox.misbehave(status=400, visitor_uid="1")
    for number in range(30):
        append("1", number)
    drained(outbox)
    sandbox.behave()
    run = Replay.start(outbox, Filter())
    run.hand_over()
    wait_until(lambda: run.progress().replayed > 0)
    worker.signal(signal.SIGKILL, group=True)
    worker.process.wait()
    assert run.progress().replayed < 30
    outbox.read("DEL", f"{outbox.keys.namespace}:celery:insend")  # with whatever Celery still had of it
    come_due(outbox, Lane(APP, "v", "1"))  # as if the lease of the killed one had run out
    start_worker(rejected_attempts=1, replay_per_second=1000)
    wait_until(lambda: outbox.read("ZCARD", outbox.keys.replays) == 1)
    outbox.read("ZADD", outbox.keys.replays, "XX", 1, run.id)  # as if a minute had passed
    wait_until(lambda: run.progress().delivered == 30)
    wait_until(lambda: outbox.read("ZCARD", outbox.keys.replays) == 0)


def test_an_outage_is_one_log_line_at_its_start_and_one_at_its_end(
    append: Append, start_worker: StartWorker, outbox: Outbox, sandbox: Sandbox
) -> None:
    sandbox.misbehave(status=503)
    for visitor in range(50):
        append(str(visitor))
    worker = start_worker(outage_max_seconds=0.1)
    wait_until(lambda: outbox.read("HLEN", outbox.keys.trying) == 50)  # all were tried and given back
    sandbox.behave()
    drained(outbox)
    worker.signal(signal.SIGTERM, group=False)
    worker.process.wait()
    lines = [line for line in worker.log.read_text().splitlines() if f"app {APP}: " in line]
    assert [line.partition(f"app {APP}: ")[2] for line in lines] == [
        "the tracker takes nothing (503: the sandbox was told to answer so); paused, nothing is lost",
        "the tracker takes events again",
    ]


def test_a_worker_leaves_a_redis_alone_that_a_newer_release_has_laid_out(
    append: Append, start_worker: StartWorker, outbox: Outbox, sandbox: Sandbox
) -> None:
    append("1")
    outbox.read("SET", outbox.keys.layout, 2)
    worker = start_worker()
    worker.process.wait(PATIENCE_SECONDS)
    outbox.read("DEL", outbox.keys.layout)
    assert "layout 2" in worker.log.read_text()
    assert sandbox.requests == []


def test_a_worker_that_starts_before_redis_waits_for_it(
    tmp_path: Path, start_worker: StartWorker, sandbox: Sandbox
) -> None:
    server = EmbeddedRedis(tmp_path / "late", server="redis")
    with server:
        url = server.url
    worker = start_worker(redis_url=url, namespace="insend")
    wait_until(lambda: "the outbox is away" in worker.log.read_text())
    with server, connect(url) as client:
        outbox = Outbox(client)
        outbox.append(Lane(APP, "v", "1"), new_id(), payload("1", 1))
        drained(outbox)
        worker.signal(signal.SIGTERM, group=False)
        worker.process.wait()
    assert len(sandbox.received) == 1


def test_a_unix_socket_will_do(tmp_path: Path, start_worker: StartWorker, sandbox: Sandbox) -> None:
    path = tmp_path / "s"
    server = EmbeddedRedis(tmp_path / "redis", server="redis", config={"unixsocket": str(path), "databases": "3"})
    with server, connect(f"unix://{path}?db=2") as client:
        worker = start_worker(redis_url=f"unix://{path}?db=2", namespace="insend")
        outbox = Outbox(client)
        outbox.append(Lane(APP, "v", "1"), new_id(), payload("1", 1))
        drained(outbox)
        worker.signal(signal.SIGTERM, group=False)
        assert worker.process.wait(PATIENCE_SECONDS) == 0, worker.log.read_text()
        assert set(client.info("keyspace")) == {"db2"}
    assert len(sandbox.received) == 1


def test_a_worker_moves_on_what_a_producer_of_its_machine_has_left_in_the_spool(
    tmp_path: Path, start_worker: StartWorker, outbox: Outbox, sandbox: Sandbox
) -> None:
    spool = Spool(tmp_path / "spool.db", namespace=outbox.keys.namespace, most_bytes=10**8)
    left = [(Entry(Lane(APP, "v", "1"), new_id(), payload("1", number)), "") for number in range(20)]
    spool.keep(left, deadline=time.monotonic() + 60)
    worker = start_worker(spool=str(spool.path))
    wait_until(lambda: ledger(outbox).get("delivered") == 20)
    assert [event.properties["number"] for event in sandbox.received] == list(range(20))
    assert not spool.may_hold()
    worker.signal(signal.SIGTERM, group=False)
    assert worker.process.wait(PATIENCE_SECONDS) == 0, worker.log.read_text()


def test_redis_restarting_under_load_loses_nothing_and_keeps_the_order(
    tmp_path: Path, start_worker: StartWorker, sandbox: Sandbox
) -> None:
    with EmbeddedRedis(tmp_path / "restarted", server="redis") as server, connect(server.url) as client:
        outbox = Outbox(client)
        for number in range(20):
            for visitor in range(50):
                outbox.append(Lane(APP, "v", str(visitor)), new_id(), payload(str(visitor), number))
        worker = start_worker(redis_url=server.url, namespace="insend", post_timeout_seconds=5, lease_seconds=10)
        wait_until(partial(more_than, sandbox, 200))
        server.kill()
        server.start()
        books = drained(outbox)
        marked = {event_id.hex() for event_id in client.zrange(outbox.keys.doubtful, 0, -1)}
        worker.signal(signal.SIGTERM, group=False)
        worker.process.wait()
    posted = Counter((request.visitor_uid, request.properties["number"]) for request in sandbox.received)
    assert (len(posted), books["delivered"]) == (1000, 1000)
    assert in_order(sandbox.received)
    assert sum(times > 1 for times in posted.values()) <= len(marked)


def test_work_that_lay_there_for_hours_is_no_sign_of_a_hung_worker(
    append: Append, start_worker: StartWorker, outbox: Outbox, sandbox: Sandbox
) -> None:
    for visitor in range(20):
        append(str(visitor))
    lanes = outbox.read("ZRANGE", outbox.keys.due(APP), 0, -1)
    for lane in lanes:
        outbox.read("ZADD", outbox.keys.due(APP), 1, lane)
    outbox.read("ZADD", outbox.keys.apps, 1, APP)
    worker = start_worker()
    drained(outbox)
    assert len(sandbox.received) == 20
    assert worker.process.poll() is None
    assert "leaving" not in worker.log.read_text()


def test_a_replay_and_live_traffic_share_a_pool_of_one(
    append: Append, start_worker: StartWorker, outbox: Outbox, sandbox: Sandbox, settings: Settings
) -> None:
    append("ok")
    start_worker(processes=1, rejected_attempts=1, server_error_attempts=1_000_000)
    drained(outbox)
    for visitor in range(10):
        sandbox.misbehave(status=400, visitor_uid=str(visitor))
        for number in range(3):
            append(str(visitor), number)
    drained(outbox)
    sandbox.behave()
    sandbox.misbehave(status=500, visitor_uid="9")  # so long the replay does not end, however quick the machine is
    run = Replay.start(outbox, Filter())
    make_app(settings).send_task("worker.replay", args=[run.id])
    wait_until(lambda: run.progress().replayed > 0)
    append("live", 7)
    wait_until(lambda: [r for r in sandbox.received if r.visitor_uid == "live"])
    assert run.progress().delivered < 30
    sandbox.behave()
    wait_until(lambda: run.progress().delivered == 30)


def test_a_worker_that_is_told_to_stop_while_redis_hangs_ends_all_the_same(
    tmp_path: Path, start_worker: StartWorker, sandbox: Sandbox
) -> None:
    sandbox.misbehave(delay=0.2)
    with EmbeddedRedis(tmp_path / "hangs", server="redis") as server, connect(server.url) as client:
        outbox = Outbox(client)
        for visitor in range(200):
            outbox.append(Lane(APP, "v", str(visitor)), new_id(), payload(str(visitor), 0))
        worker = start_worker(redis_url=server.url, namespace="insend", stop_seconds=1)
        wait_until(partial(more_than, sandbox, 10))
        os.kill(server.pid, signal.SIGSTOP)
        try:
            worker.signal(signal.SIGTERM, group=False)
            worker.process.wait(PATIENCE_SECONDS)
        finally:
            os.kill(server.pid, signal.SIGCONT)


def test_a_pool_process_that_alone_is_told_to_stop_is_of_use_afterwards(
    append: Append, start_worker: StartWorker, outbox: Outbox, sandbox: Sandbox
) -> None:
    sandbox.misbehave(delay=0.05)
    for number in range(40):
        for visitor in range(50):
            append(str(visitor), number)
    worker = start_worker(processes=1)
    wait_until(partial(more_than, sandbox, 30))
    lease = wait_until(lambda: outbox.read("HVALS", outbox.keys.lease))[0]
    os.kill(int(holder_of(lease).rpartition(":")[2]), signal.SIGTERM)
    books = drained(outbox)
    posted = Counter((request.visitor_uid, request.properties["number"]) for request in sandbox.requests)
    assert (len(posted), max(posted.values())) == (2000, 1)
    assert books.get("duplicates_possible", 0) == 0
    assert worker.process.poll() is None
    assert "Traceback" not in worker.log.read_text()
