"""The wake-up list of deliveries: an append that makes a lane due calls a delivery that lingers.

A delivery that lingers has room and nothing to claim. It has told the outbox so with its last claim (``claim.lua``),
and waits on the list ``wake:delivery``. Without a delivery that lingers a pump is called, on a list of its own.

A call may be lost: a process may be killed while it waits, or when it has just been called. The outbox counts it as
lingering for a quarter of a second at most; then the next pump that looks, once a second, publishes a hint.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time

import gevent
import gevent.event

from insend_relay.outbox.connection import Executor
from insend_relay.outbox.errors import OutboxError
from insend_relay.outbox.store import Outbox
from insend_relay.worker.green_thread import Door

WAIT_SECONDS = 0.25  # for a call, then again; so long a call may still be taken that is not wanted any more
PAUSE_SECONDS = 0.1  # after an error


class WakeUp:
    """Waits for calls, in a thread with a connection of its own; made and used in the greenlets' thread.

    Args:
        redis: The client that waits, in the other thread.
        outbox: Passes on a call that is not wanted any more.
        called: Set when a call has come.
    """

    def __init__(self, redis: Executor, outbox: Outbox, called: gevent.event.Event) -> None:
        self._redis = redis
        self._outbox = outbox
        self._called = called
        self._wanted = self._waits = False
        self._door = Door()
        self._jobs: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="insend-wake-up", daemon=True).start()

    def listen(self) -> None:
        """Wait for calls from now on."""
        self._wanted = True
        if not self._waits:
            self._waits = True
            self._jobs.put(WAIT_SECONDS)

    def rest(self) -> None:
        """No call is wanted any more; one that still comes goes to another delivery or to a pump."""
        self._wanted = False

    def close(self) -> None:
        """End the thread, when it has waited to the end: what it still hears is lost, and found by a pump."""
        self._jobs.put(None)
        self._door.close()

    def _serve(self) -> None:
        """The thread's life."""
        while (seconds := self._jobs.get()) is not None:
            self._door.call(self._heard, self._wait(seconds))

    def _wait(self, seconds: float) -> bool:
        try:
            return self._redis.execute_command("BLPOP", self._outbox.keys.wake_delivery, seconds) is not None
        except Exception:  # noqa: BLE001 - the next claim shows what is wrong
            time.sleep(PAUSE_SECONDS)
            return False

    def _heard(self, call: bool) -> None:  # noqa: FBT001 - a result
        self._waits = False
        if call and not self._wanted:
            gevent.spawn_raw(self._pass_on)
        elif call:
            self._called.set()
        if self._wanted:
            self.listen()

    def _pass_on(self) -> None:
        with contextlib.suppress(OutboxError):
            self._outbox.wake()
