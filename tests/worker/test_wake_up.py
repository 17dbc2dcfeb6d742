"""A delivery that lingers: it is called, it does not look, and a call that is lost is found."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any, Self

import gevent
import gevent.event
import pytest
import redis
from delivering import Append, WorkerProcess, drained
from lanes import now_ms
from waiting import PATIENCE_SECONDS, wait_until

from insend_relay.console.sandbox.sandbox import Sandbox
from insend_relay.outbox.claim import Claims
from insend_relay.outbox.connection import Executor
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.worker import claim_loop, wake_up
from insend_relay.worker.delivery import Delivery
from insend_relay.worker.green_thread import GreenThread
from insend_relay.worker.stop import Stop
from insend_relay.worker.wake_up import WakeUp

LONG_SECONDS = 4.0  # of lingering; less than a client of Redis waits for an answer


class Watched(Outbox):
    """Notes each claim: whether its caller means to linger, and how many lanes it got."""

    def __init__(self, redis: Executor, namespace: str, claims: list[tuple[bool, int]]) -> None:
        super().__init__(redis, namespace=namespace)
        self._claims = claims

    def through(self, redis: Executor) -> Outbox:
        return Watched(redis, self.keys.namespace, self._claims)

    def claim(self, *args: Any, linger_ms: int = 0, **options: Any) -> Claims:
        claims = super().claim(*args, linger_ms=linger_ms, **options)
        self._claims.append((linger_ms > 0, len(claims)))
        return claims


def lingers(outbox: Outbox) -> bool:
    """Whether the outbox counts on a delivery."""
    return bool(outbox.read("ZCOUNT", outbox.keys.lingering, now_ms(outbox), "+inf"))


class Listening:
    """A WakeUp in a thread of greenlets.

    Attributes:
        heard: Released for each call that was heard.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.heard = threading.Semaphore(0)

    def __enter__(self) -> Self:
        self._thread = GreenThread("test")
        self.wake_up = self._thread.call(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.call(self.wake_up.close)
        self._thread.close()

    def _listen(self) -> WakeUp:
        called = gevent.event.Event()

        def note() -> None:
            while called.wait():
                called.clear()
                self.heard.release()

        gevent.spawn(note)
        wake_up = WakeUp(self._outbox.redis, self._outbox, called)
        wake_up.listen()
        return wake_up

    def rest(self) -> None:
        """No call is wanted any more."""
        self._thread.call(self.wake_up.rest)

    def wait_again(self) -> None:
        """Until it has waited without a call several times."""
        before = self._waits()
        wait_until(lambda: self._waits() > before + 3)

    def _waits(self) -> int:
        stats = self._outbox.read("INFO", "commandstats")
        return int(stats["cmdstat_blpop"]["calls"]) if "cmdstat_blpop" in stats else 0


def test_any_number_of_calls_is_heard_and_only_by_whom_they_are_meant_for(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wake_up, "WAIT_SECONDS", 0.01)
    with Listening(outbox) as listening:
        outbox.read("LPUSH", outbox.keys.wake, "1")
        for _ in range(3):
            listening.wait_again()
            outbox.read("LPUSH", outbox.keys.wake_delivery, "1")
            assert listening.heard.acquire(timeout=PATIENCE_SECONDS)
        assert outbox.read("LLEN", outbox.keys.wake) == 1


def test_a_call_that_comes_too_late_is_passed_on_to_a_pump(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wake_up, "WAIT_SECONDS", LONG_SECONDS)
    with Listening(outbox) as listening:
        listening.rest()
        outbox.read("LPUSH", outbox.keys.wake_delivery, "1")
        wait_until(lambda: outbox.read("LLEN", outbox.keys.wake))


def test_an_event_that_comes_while_a_delivery_lingers_is_claimed_at_a_call_and_no_pump_is_called(
    append: Append, outbox: Outbox, settings: Settings, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim_loop, "LINGER_SECONDS", LONG_SECONDS)
    claims: list[tuple[bool, int]] = []
    delivery = Delivery(Watched(outbox.redis, settings.namespace, claims), settings, Stop(8))
    running = threading.Thread(target=delivery.run)
    running.start()
    try:
        wait_until(lambda: lingers(outbox))
        for number in range(5):
            append("42", number)
            drained(outbox)
        assert outbox.read("LLEN", outbox.keys.wake) == 0
    finally:
        delivery.stop.ask()
        running.join()
        delivery.finish()
    assert [lanes for _, lanes in claims if lanes] == [1] * 5
    assert all(meant_to_linger for meant_to_linger, lanes in claims if lanes), "not by the look after the wait"
    assert len(sandbox.received) == 5


def test_a_delivery_that_lingers_does_not_look_again_and_again(outbox: Outbox, settings: Settings) -> None:
    claims: list[tuple[bool, int]] = []
    delivery = Delivery(Watched(outbox.redis, settings.namespace, claims), settings, Stop(8))
    try:
        assert not delivery.run()
    finally:
        delivery.finish()
    assert claims[-1] == (False, 0)
    assert len(claims) <= 5, "it looked every 10 ms before"
    assert not lingers(outbox)


def test_a_retry_that_comes_due_while_a_delivery_lingers_is_not_late(
    append: Append, delivering: Callable[..., Any], outbox: Outbox, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim_loop, "LINGER_SECONDS", LONG_SECONDS)
    append("1")
    with delivering(retry_first_seconds=0.02, retry_jitter=0):
        drained(outbox)
        sandbox.misbehave(status=500, visitor_uid="1", times=4)
        append("1", 1)
        drained(outbox)
    arrivals = [request.arrived_at for request in sandbox.requests[1:]]
    waits = [later - earlier for earlier, later in itertools.pairwise(arrivals)]
    assert len(waits) == 4
    assert min(waits) < LONG_SECONDS / 2


def only_pumps_wait(client: redis.Redis, workers: int) -> bool:
    """Whether no delivery waits to be called any more; the last wait may go on after its lingering."""
    blocked = [each["cmd"] for each in client.client_list() if "b" in each["flags"]]  # else it is the last command
    return blocked.count("blpop") <= workers


@pytest.mark.parametrize("heard", [False, True], ids=["while it waited", "when it had been called"])
def test_a_call_to_a_delivery_that_is_killed_is_found_by_a_pump(
    heard: bool,  # noqa: FBT001 - a parameter of the test
    append: Append,
    start_worker: Callable[..., WorkerProcess],
    outbox: Outbox,
    client: redis.Redis,
) -> None:
    append("first")
    start_worker().wait_ready()
    drained(outbox)
    wait_until(lambda: not lingers(outbox) and only_pumps_wait(client, workers=1))
    outbox.claim("a worker that is killed", 1, lease_ms=1, linger_ms=1_000)
    append("second")
    if heard:
        outbox.read("DEL", outbox.keys.wake_delivery)
    assert drained(outbox)["delivered"] == 2
