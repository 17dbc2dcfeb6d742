"""Events through a delivery to a tracker that behaves, fails, comes back; over real Redis and real HTTP."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import redis
from answering import answer, answering
from delivering import APP, Append, drained, ledger, payload
from lanes import LEASE_MS, PATIENCE_MS, claim, come_due, crash
from waiting import PATIENCE_SECONDS, wait_until

from insend_relay.console.sandbox.sandbox import Received, Sandbox
from insend_relay.operations.dead import DeadLetters, Filter
from insend_relay.operations.latency import read_latency
from insend_relay.operations.replay import replay
from insend_relay.operations.status import read_paused
from insend_relay.outbox import record
from insend_relay.outbox.claim import Claim, Claims, Delivered
from insend_relay.outbox.connection import Executor
from insend_relay.outbox.errors import OutboxUnreachable
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.quarantine import CRASHED, QuarantineTurn
from insend_relay.outbox.scripts import load
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.producers import InSend
from insend_relay.worker.delivery import Delivery
from insend_relay.worker.head import UNDECODABLE
from insend_relay.worker.stop import Stop

Delivering = Callable[..., Any]


def numbers(events: list[Received], uid: str) -> list[int]:
    """The numbers of a visitor's events, in order of arrival."""
    return [event.properties["number"] for event in events if event.visitor_uid == uid]


def letters(outbox: Outbox) -> list[tuple[str, str]]:
    """Type and reason of every dead letter."""
    return [(letter.type, letter.reason) for letter in DeadLetters(outbox).scan(Filter())]


def test_events_arrive_once_and_in_order(
    append: Append, delivering: Delivering, outbox: Outbox, sandbox: Sandbox
) -> None:
    for number in range(20):
        for uid in ("1", "2", "3"):
            append(uid, number)
    with delivering():
        books = drained(outbox)
    assert [numbers(sandbox.requests, uid) for uid in ("1", "2", "3")] == [list(range(20))] * 3
    assert (books["accepted"], books["delivered"]) == (60, 60)


def test_the_time_of_each_post_that_was_answered_200_is_counted(
    append: Append, delivering: Delivering, outbox: Outbox, sandbox: Sandbox
) -> None:
    sandbox.misbehave(status=500, visitor_uid="1", times=2)
    sandbox.misbehave(delay=0.03)
    for number in range(3):
        append("1", number)
    with delivering(retry_first_seconds=0.001, retry_max_seconds=0.002):
        drained(outbox)
    found = read_latency(outbox, APP)
    assert (found.post.count, found.delivered.count) == (3, 3)
    assert found.post.sum_ms >= 3 * 30, "a POST takes at least as long as the tracker"


def test_redis_looks_leases_up_and_does_not_search_a_packed_list(
    append: Append, delivering: Delivering, outbox: Outbox, sandbox: Sandbox
) -> None:
    sandbox.misbehave(delay=0.1)
    for number in range(10):
        append("1", number)
    encodings: list[bytes] = []

    def is_leased() -> bool:
        encodings.append(outbox.read("OBJECT", "ENCODING", outbox.keys.lease))
        return bool(encodings[-1])

    with delivering():
        wait_until(is_leased)
    assert encodings[-1] == b"hashtable"


def test_a_tracker_that_answers_500_three_times_gets_three_retries_none_early_and_order_is_kept(
    append: Append, delivering: Delivering, outbox: Outbox, sandbox: Sandbox
) -> None:
    sandbox.misbehave(status=500, visitor_uid="1", times=3)
    append("1", 1)
    append("1", 2)
    with delivering(retry_first_seconds=0.1, retry_max_seconds=10, retry_jitter=0):
        drained(outbox)
    assert [(r.status, r.properties["number"]) for r in sandbox.requests] == [
        (500, 1),
        (500, 1),
        (500, 1),
        (200, 1),
        (200, 2),
    ]
    arrivals = [request.arrived_at for request in sandbox.requests]
    waits = [later - earlier for earlier, later in itertools.pairwise(arrivals[:4])]
    millisecond = 0.001  # Redis's clock, by which an event comes due, is cut to whole ones
    assert all(wait > due - millisecond for wait, due in zip(waits, (0.1, 0.2, 0.4), strict=True))


def test_the_first_event_after_a_login_arrives_after_all_that_the_guest_did_before(
    delivering: Delivering, outbox: Outbox, sandbox: Sandbox, redis_url: str
) -> None:
    sandbox.misbehave(status=500, visitor_uid="g-7", times=6)
    account: Any = {"app_key": APP, "domain": "shop.example.com", "enqueue_timeout_ms": 10_000}
    with InSend(**account, redis_url=redis_url, namespace=outbox.keys.namespace) as insend:
        for number in range(10):
            for _ in range(3):
                insend.view_product(product_id=1, guest_uid=f"g-{number}")
            insend.view_product(product_id=2, guest_uid=f"g-{number}", visitor_uid=number)
            insend.view_product(product_id=3, visitor_uid=number)
            insend.view_product(product_id=4, guest_uid=f"g-{number}")
    with delivering(retry_first_seconds=0.001, retry_max_seconds=0.002):
        drained(outbox)
    for number in range(10):
        mine = [e for e in sandbox.requests if e.visitor_uid == str(number) or e.guest_uid == f"g-{number}"]
        products = [event.properties["product_id"] for event in mine]
        assert products.count("1") == (9 if number == 7 else 3)  # the unlucky one
        assert products.index("2") > max(at for at, product in enumerate(products) if product == "1")
        assert products.index("3") > products.index("2")


def test_no_slot_is_held_while_a_lane_waits(
    append: Append, delivering: Delivering, outbox: Outbox, sandbox: Sandbox
) -> None:
    sandbox.misbehave(status=500, visitor_uid="bad")
    append("ok", 0)
    with delivering(concurrency=1, retry_first_seconds=3600, retry_max_seconds=3600):
        wait_until(lambda: numbers(sandbox.received, "ok") == [0])  # a 200: one failing visitor is not an outage
        append("bad")
        wait_until(lambda: outbox.read("HEXISTS", outbox.keys.trying, f"{APP}/v/bad"))
        for number in range(1, 6):
            append("ok", number)
        wait_until(lambda: numbers(sandbox.received, "ok") == list(range(6)))
    assert len(numbers(sandbox.requests, "bad")) == 1
    assert ledger(outbox)["waiting"] == 1


def test_a_rejected_event_is_buried_its_visitor_goes_on_and_replay_delivers_it(
    append: Append, delivering: Delivering, outbox: Outbox, sandbox: Sandbox
) -> None:
    append("2", 0)
    with delivering():
        drained(outbox)
        sandbox.misbehave(status=400, visitor_uid="1", times=5)
        append("1", 1)
        append("1", 2)
        append("2", 1)
        drained(outbox)
        assert (numbers(sandbox.received, "1"), numbers(sandbox.received, "2")) == ([2], [0, 1])
        assert letters(outbox) == [("custom", "400")]
        progress = replay(outbox, per_second=1000)
        books = drained(outbox)
    assert progress.replayed == 1
    assert numbers(sandbox.received, "1") == [2, 1]
    assert (books["replayed"], books["dead"], books["delivered"]) == (1, 0, 4)


def test_a_dead_letter_says_how_its_last_attempt_ended(
    append: Append, delivering: Delivering, outbox: Outbox, sandbox: Sandbox
) -> None:
    append("2")
    with delivering(rejected_attempts=2):
        drained(outbox)
        sandbox.misbehave(status=422, visitor_uid="1")
        event_id = append("1", 7)
        drained(outbox)
    letter = DeadLetters(outbox).get(uuid.UUID(event_id))
    assert (letter.outcome, letter.status, letter.attempts, letter.reason) == ("answered", 422, 2, "422")
    assert b'"number":7' in letter.payload


def test_two_hundred_visitors_with_random_failures_get_every_event_once_and_in_order(
    append: Append, delivering: Delivering, outbox: Outbox, sandbox: Sandbox
) -> None:
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    for number in range(20):
        for visitor in chance.sample(range(200), 200):
            append(str(visitor), number)
    for visitor in chance.sample(range(200), 60):
        status = chance.choice([400, 408, 429, 500, 503])
        sandbox.misbehave(status=status, visitor_uid=str(visitor), times=chance.randrange(1, 4))
    with delivering(rejected_attempts=50, unreachable_attempts=50, server_error_attempts=50):
        books = drained(outbox)
    arrived: dict[str, list[int]] = defaultdict(list)
    for event in sandbox.received:
        arrived[event.visitor_uid].append(event.properties["number"])
    assert arrived == {str(visitor): list(range(20)) for visitor in range(200)}, f"seed {seed}"
    assert (books["delivered"], books.get("dead", 0)) == (4000, 0)


def test_a_tracker_that_is_down_is_probed_now_and_then_and_no_attempt_is_counted(
    append: Append, delivering: Delivering, outbox: Outbox, sandbox: Sandbox
) -> None:
    sandbox.misbehave(status=503)
    for visitor in range(1000):
        append(str(visitor), 0)
    with delivering(outage_first_seconds=0.02, outage_max_seconds=0.1, unreachable_attempts=2):
        wait_until(lambda: len(sandbox.requests) > 60)  # 16 in flight, then probes, one at a time
        held = [outbox.read("ZCARD", outbox.keys.due(APP)), ledger(outbox)["waiting"]]
        attempts = [data[17] + data[16] for data in outbox.read("HVALS", outbox.keys.trying)]
        sandbox.behave()
        books = drained(outbox)
    assert held == [1000, 1000]
    assert set(attempts) == {0}
    assert (books["delivered"], books.get("dead", 0)) == (1000, 0)
    assert sorted(event.visitor_uid for event in sandbox.received) == sorted(map(str, range(1000)))


def test_each_probe_uses_a_new_connection(
    append: Append, delivering: Delivering, outbox: Outbox, sandbox: Sandbox
) -> None:
    for visitor in range(20):
        append(str(visitor))
    with delivering(outage_first_seconds=0.02, outage_max_seconds=0.1):
        drained(outbox)
        sandbox.misbehave(status=503)
        for visitor in range(20):
            append(str(visitor))
        wait_until(lambda: outbox.read("HEXISTS", outbox.keys.outage(APP), "since"))
        begun = len(sandbox.requests)
        wait_until(lambda: len(sandbox.requests) > begun + 30)
        probes = sandbox.requests[begun + 20 :]  # after those that were in flight when it began
        sandbox.behave()
        drained(outbox)
    assert len({request.connection for request in probes}) == len(probes)


def test_with_a_wrong_key_nothing_becomes_a_dead_letter(
    append: Append, delivering: Delivering, outbox: Outbox, sandbox: Sandbox
) -> None:
    sandbox.misbehave(status=403)
    for visitor in range(50):
        append(str(visitor))
    with delivering(outage_first_seconds=0.01, outage_max_seconds=0.02, rejected_attempts=1):
        wait_until(lambda: outbox.read("HLEN", outbox.keys.trying) == 50)  # all were tried and given back
        assert letters(outbox) == []
        sandbox.behave()
        books = drained(outbox)
    assert books["delivered"] == 50


def test_nor_with_a_key_that_turns_wrong_right_after_a_200(
    append: Append, delivering: Delivering, outbox: Outbox, sandbox: Sandbox
) -> None:
    with delivering(rejected_attempts=1, outage_calm_seconds=0.5, outage_first_seconds=0.01, outage_max_seconds=0.02):
        append("1", 1)
        drained(outbox)
        sandbox.misbehave(status=403)
        append("1", 2)
        wait_until(lambda: outbox.read("HEXISTS", outbox.keys.outage(APP), "since"))
        assert letters(outbox) == []
        sandbox.behave()
        assert drained(outbox)["delivered"] == 2


def test_a_poisoned_visitor_and_a_poisoned_event_type_never_stop_the_others(
    append: Append, delivering: Delivering, outbox: Outbox, sandbox: Sandbox
) -> None:
    sandbox.misbehave(status=400, visitor_uid="poison")
    sandbox.misbehave(status=500, type="link")
    for number in range(10):
        append("poison", number)
        for visitor in range(20):
            append(str(visitor), number)
    for visitor in range(20):
        append(str(visitor), 99, type="link", key_page_id=1)
    with delivering():
        books = drained(outbox)
    good = [event for event in sandbox.received if event.visitor_uid != "poison"]
    assert all(numbers(good, str(visitor)) == list(range(10)) for visitor in range(20))
    assert (books["delivered"], books["dead"]) == (200, 30)


def test_an_app_with_a_dead_tracker_does_not_hold_back_another(
    append: Append, delivering: Delivering, outbox: Outbox, sandbox: Sandbox
) -> None:
    for visitor in range(10):
        append(f"down-{visitor}", app="app2")
        sandbox.misbehave(status=503, visitor_uid=f"down-{visitor}")
    with delivering(outage_first_seconds=600, outage_max_seconds=600):
        wait_until(lambda: paused(outbox, "app2"))
        append("1", 1)
        wait_until(lambda: numbers(sandbox.received, "1") == [1])
    assert ledger(outbox)["waiting"] == 10


def paused(outbox: Outbox, app: str = APP) -> bool:
    """Whether the outage guard holds the app back."""
    return bool(outbox.read("HEXISTS", outbox.keys.outage(app), "since"))


def test_retry_after_is_honoured_for_the_whole_app(
    append: Append, delivering: Delivering, outbox: Outbox, sandbox: Sandbox
) -> None:
    sandbox.misbehave(status=429, retry_after=1, times=1)
    append("1")
    with delivering(outage_first_seconds=0.01):
        wait_until(lambda: paused(outbox) or len(sandbox.requests) > 1)  # the sandbox knows before the guard does
        append("2")
        drained(outbox)
    first, *others = [request.arrived_at for request in sandbox.requests]
    assert len(others) == 2
    assert min(others) - first > 0.999  # Redis's clock is cut to whole milliseconds


def test_an_event_that_kills_its_worker_again_and_again_is_buried(
    append: Append, delivering: Delivering, outbox: Outbox, sandbox: Sandbox
) -> None:
    append("1", 1)
    append("1", 2)
    lane = Lane(APP, "v", "1")
    crash(outbox, lane, times=2)
    assert claim(outbox) == []
    turn = QuarantineTurn(outbox, "host:1")
    for _ in range(4):
        come_due(outbox, lane, ms_ago=PATIENCE_MS)
        assert turn.claim(lease_ms=LEASE_MS, idle=True)
    come_due(outbox, lane, ms_ago=PATIENCE_MS)
    with delivering():
        books = drained(outbox)
    assert letters(outbox) == [("custom", CRASHED)]
    (dead,) = DeadLetters(outbox).scan()
    assert (dead.attempts, dead.outcome, dead.answer) == (6, "unknown", ""), "it was sent, and nothing was answered"
    assert numbers(sandbox.requests, "1") == [2]
    assert books["duplicates_possible"] == 6


def test_a_record_that_cannot_be_read_is_buried_with_its_bytes(
    append: Append, delivering: Delivering, outbox: Outbox, sandbox: Sandbox
) -> None:
    lane = Lane(APP, "v", "1")
    outbox.append(lane, record.new_id(), b"\xff not JSON")
    data = outbox.read("LPOP", outbox.keys.lane(lane))
    broken = data[:41] + b"\xff" + data[42:]  # a guest uid longer than the record
    outbox.read("RPUSH", outbox.keys.lane(lane), broken)
    append("1", 2)
    with delivering():
        drained(outbox)
    assert letters(outbox) == [("?", UNDECODABLE)]
    assert next(iter(DeadLetters(outbox).scan(Filter()))).payload == broken
    assert numbers(sandbox.requests, "1") == [2]


CUT = record.encode(record.Record(bytes(16), 1, 1, 0, "", payload("1", 7)))[:-1]  # within its compressed payload


@pytest.mark.parametrize(
    "data", [b"", b"\x01", b"\x01" * 20, b"\x01" * 44 + b"\xff", b"\x01" * 44 + b"\xff" * 9, CUT], ids=len
)
def test_bytes_that_are_no_record_at_all_stop_nobody(
    append: Append, delivering: Delivering, outbox: Outbox, data: bytes
) -> None:
    append("1", 0)
    outbox.read("RPUSH", outbox.keys.lane(Lane(APP, "v", "1")), data)
    append("1", 1)
    append("2", 0)
    with delivering():
        wait_until(lambda: ledger(outbox).get("delivered") == 3)
    assert letters(outbox) == [("?", UNDECODABLE)]


def test_a_claim_whose_answer_was_lost_is_given_back_and_counts_against_nobody(
    append: Append, outbox: Outbox, settings: Settings, sandbox: Sandbox
) -> None:
    append("1", 1)
    losing = LosesAnswers(outbox.redis, times=7)
    delivery = Delivery(Outbox(losing, namespace=settings.namespace), settings, Stop(8))
    for _ in range(8):
        with contextlib.suppress(OutboxUnreachable):
            delivery.run()
    delivery.finish()
    books = ledger(outbox)
    assert (books["delivered"], books.get("dead", 0), books.get("duplicates_possible", 0)) == (1, 0, 0)
    assert numbers(sandbox.requests, "1") == [1]


class LosesAnswers:
    """A real client whose claims reach Redis while their answers do not come back."""

    def __init__(self, redis: Executor, times: int) -> None:
        self._redis = redis
        self._times = times

    def execute_command(self, *command: Any) -> Any:
        """Run it; lose the answer of a claim that leased something."""
        answer = self._redis.execute_command(*command)
        if command[1:2] == (load("claim").sha,) and len(answer) > 4 and self._times:
            self._times -= 1
            raise redis.TimeoutError("the answer did not come in time")
        return answer


def test_a_delivery_that_begins_after_the_end_of_the_process_ends_at_once(
    append: Append, outbox: Outbox, settings: Settings, sandbox: Sandbox
) -> None:
    """As a task does that Celery had received before the worker was told to stop."""
    delivery = Delivery(outbox, settings, Stop(8))
    append("1")
    delivery.run()
    delivery.finish()
    append("1", 1)
    late = threading.Thread(target=delivery.run, daemon=True)
    late.start()
    late.join(PATIENCE_SECONDS)
    assert not late.is_alive()
    assert len(sandbox.received) == 1


def test_a_process_claims_no_more_than_it_may_post(
    append: Append, outbox: Outbox, settings: Settings, sandbox: Sandbox
) -> None:
    sandbox.misbehave(delay=3600)
    for number in range(20):
        append(str(number))
    leases: list[int] = []
    few = replace(settings, concurrency=4, post_timeout_seconds=0.5)
    delivery = Delivery(_Watched(outbox.redis, settings.namespace, leases), few, Stop(8))
    wait_until(lambda: bool(delivery.run(0.2)) and bool(leases))
    delivery.finish()
    assert max(leases) == 4


def test_while_redis_settles_nothing_no_more_than_twice_as_many_are_under_way(
    append: Append, outbox: Outbox, settings: Settings
) -> None:
    for number in range(40):
        append(str(number))
    leases: list[int] = []
    watched = _Watched(outbox.redis, settings.namespace, leases, fails=True)
    delivery = Delivery(watched, replace(settings, concurrency=4), Stop(0.1))
    wait_until(lambda: bool(delivery.run(0.2)) and len(leases) > 1)
    delivery.stop.ask()
    delivery.finish()
    assert 4 <= max(leases) <= 8


class _Watched(Outbox):
    """Counts the leases behind each claim, and settles nothing when told so."""

    def __init__(self, redis: Executor, namespace: str, leases: list[int], *, fails: bool = False) -> None:
        super().__init__(redis, namespace=namespace)
        self._leases, self._fails = leases, fails

    def through(self, redis: Executor) -> Outbox:
        return _Watched(redis, self.keys.namespace, self._leases, fails=self._fails)

    def claim(self, *args: Any, **options: Any) -> Claims:
        claims = super().claim(*args, **options)
        self._leases.append(self.read("HLEN", self.keys.lease))
        return claims

    def settle_all(self, app: str, delivered: Sequence[Delivered]) -> list[Claim | None]:
        if self._fails:
            raise OutboxUnreachable("Redis cannot be reached")
        return super().settle_all(app, delivered)


def test_what_waits_for_a_permit_is_given_back_when_the_guard_pauses_its_app(
    append: Append, delivering: Delivering, outbox: Outbox, sandbox: Sandbox
) -> None:
    for number in range(10):
        for uid in range(12):
            append(str(uid), number)
    with delivering(
        concurrency=4, outage_unreachable=1, outage_first_seconds=600, outage_max_seconds=600, post_timeout_seconds=5
    ):
        wait_until(lambda: len(sandbox.requests) > 40)
        sandbox.misbehave(status=502, delay=3600)
        wait_until(lambda: outbox.read("HEXISTS", outbox.keys.outage(APP), "since"))
        wait_until(lambda: not outbox.read("HLEN", outbox.keys.lease))
    assert sum(request.status == 502 for request in sandbox.requests) == 4


def test_one_slow_answer_does_not_hold_up_the_others_at_the_end_of_a_slice(
    append: Append, outbox: Outbox, settings: Settings, sandbox: Sandbox
) -> None:
    sandbox.misbehave(delay=3600, visitor_uid="slow")
    append("slow")
    patient = replace(settings, post_timeout_seconds=120, lease_seconds=240)
    delivery = Delivery(outbox, patient, Stop(0.1))

    def slices_until(condition: Callable[[], bool]) -> None:
        def one_more() -> bool:
            delivery.run(slice_seconds=0.2)  # comes back although the slow one is still under way
            return condition()

        wait_until(one_more)

    try:
        slices_until(lambda: numbers(sandbox.requests, "slow") == [0])
        append("quick", 1)
        slices_until(lambda: ledger(outbox).get("delivered") == 1)
        assert numbers(sandbox.received, "quick") == [1]
        assert numbers(sandbox.requests, "slow") == [0]
        assert outbox.read("HKEYS", outbox.keys.lease) == [f"{APP}/v/slow".encode()]
    finally:
        delivery.finish()
    assert outbox.read("HLEN", outbox.keys.lease) == 0
    assert ledger(outbox)["duplicates_possible"] == 1


def test_one_visitors_retry_after_waits_for_that_visitor_only_while_others_are_served(
    append: Append, delivering: Delivering, outbox: Outbox, sandbox: Sandbox
) -> None:
    append("ok", 0)
    with delivering():
        drained(outbox)
        sandbox.misbehave(status=429, retry_after=600, visitor_uid="1")
        append("1")
        wait_until(lambda: outbox.read("HEXISTS", outbox.keys.trying, f"{APP}/v/1"))
        append("ok", 1)
        wait_until(lambda: numbers(sandbox.received, "ok") == [0, 1])
    assert len(numbers(sandbox.requests, "1")) == 1
    due_at = float(outbox.read("ZSCORE", outbox.keys.due(APP), f"{APP}/v/1"))
    seconds, _ = outbox.read("TIME")
    assert due_at / 1000 - seconds > 590


def test_a_good_visitor_behind_many_poisoned_ones_is_probed_soon(
    append: Append, delivering: Delivering, outbox: Outbox, sandbox: Sandbox
) -> None:
    for visitor in range(60):
        sandbox.misbehave(status=500, visitor_uid=f"poison-{visitor}")
        append(f"poison-{visitor}")
    with delivering(outage_first_seconds=0.02, outage_max_seconds=0.02):
        wait_until(lambda: outbox.read("HLEN", outbox.keys.trying) == 60)  # every poisoned one was tried
        append("good")
        before = len(sandbox.requests)  # what arrived by now may have been claimed without knowing of it
        wait_until(lambda: numbers(sandbox.received, "good") == [0])
        visitors = [request.visitor_uid for request in sandbox.requests]
    assert visitors.index("good") - before <= 3


def test_a_delivery_whose_caller_is_called_away_goes_on_and_no_second_one_begins(
    outbox: Outbox, settings: Settings, sandbox: Sandbox, append: Append
) -> None:
    append("42")
    sandbox.misbehave(delay=3_600)
    delivery = Delivery(outbox, replace(settings, post_timeout_seconds=1_000, lease_seconds=1_100), Stop(0))

    def call_away(*_: object) -> None:
        raise InterruptedError

    def call_away_in_mid_post() -> None:
        wait_until(lambda: sandbox.requests)
        os.kill(os.getpid(), signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, call_away)
    calling = threading.Thread(target=call_away_in_mid_post)
    calling.start()
    try:
        with pytest.raises(InterruptedError):
            delivery.run(slice_seconds=1_000)
    finally:
        calling.join()
        signal.signal(signal.SIGALRM, before)
    assert delivery.running
    assert not delivery.run()
    delivery.finish()
    assert not delivery.running


def test_the_tracker_s_answer_is_stored_and_logged_without_what_it_repeats_of_a_person(
    delivering: Delivering, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    info = {"first_name": "Zoë", "email": "zoe@example.com", "phone": "+7 900 1234567"}
    data = payload("zq42zq", 1)[:-1] + b"," + json.dumps({"visitor_info": info})[1:].encode()
    outbox.append(Lane(APP, "v", "zq42zq"), record.new_id(), data)
    said = '{"error": "key revoked", "you sent": "zq42zq Zoë zoe@example.com +7 900 1234567"}'
    with (
        answering(answer("401 Unauthorized", said)) as (_, port),
        delivering(tracker_url=f"http://127.0.0.1:{port}/", outage_first_seconds=600, outage_max_seconds=600),
    ):
        paused = wait_until(lambda: read_paused(outbox, APP))
    assert paused
    assert paused.fault == "key"
    for shown in (paused.reason, caplog.text):
        assert '401: {"error": "key revoked"' in shown
        assert not any(value in shown for value in ("Zo", "zoe", "900", "zq42zq"))


def test_a_redirect_pauses_an_app_of_one_visitor_and_never_kills_its_event(
    append: Append, delivering: Delivering, outbox: Outbox
) -> None:
    append("42")
    moved = answer("308 Permanent Redirect", "", "Location: https://new.example.net/watch/event")
    with (
        answering(moved) as (server, port),
        delivering(
            tracker_url=f"http://127.0.0.1:{port}/",
            outage_first_seconds=0.01,
            outage_max_seconds=0.02,
            rejected_attempts=1,
        ),
    ):
        wait_until(lambda: len(server.requests) > 10)
        paused = wait_until(lambda: read_paused(outbox, APP))
    assert paused
    assert (paused.fault, paused.reason) == ("redirect", "308: Location: https://new.example.net/watch/event")
    books = ledger(outbox)
    assert (books["waiting"], books.get("dead", 0)) == (1, 0)


def test_the_log_tells_when_another_fault_takes_the_place_of_the_one_that_began_a_pause(
    append: Append, delivering: Delivering, outbox: Outbox, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    for visitor in range(6):
        append(str(visitor))
    sandbox.misbehave(status=503)
    with delivering(outage_first_seconds=0.01, outage_max_seconds=0.02):
        wait_until(lambda: "paused, nothing is lost" in caplog.text)
        sandbox.misbehave(status=401)
        wait_until(lambda: "still paused, and now the tracker answers: 401" in caplog.text)
        seen = len(sandbox.requests)
        wait_until(lambda: len(sandbox.requests) > seen + 5)
        sandbox.behave()
        drained(outbox)
    assert caplog.text.count("still paused") == 1
