"""The pump: a thread of each worker that turns due lanes into hints.

It is a bootstep of the *worker* blueprint (a consumer's steps restart with each reconnect to the broker). It blocks on
``wake`` for at most a second, looks whether a lane may be claimed, and publishes one hint when nobody was told yet.
While all of its own pool is busy it does not listen: somebody else's pool may be free.

Every few seconds it sends the worker's heartbeat (``outbox/heartbeat.py``), and once a second it makes due again what a
step back of Redis's clock has left scheduled too far ahead (``outbox/clock_steps.py``).

A hint that cannot be published (the broker is away, or Redis is full and refuses it) is not needed: the pump delivers
itself, and tries the broker again now and then. And when it has seen lanes lie unclaimed for a minute (longer if a POST
may take long), the worker is hung: the pump says so and ends the process, for its supervisor to start it anew.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

from celery import bootsteps
from celery.worker import state

from insend_relay.operations.replay import overdue
from insend_relay.outbox.clock_steps import ClockSteps
from insend_relay.outbox.errors import ClusterMode, NewerLayout, OutboxError
from insend_relay.outbox.heartbeat import HEARTBEAT_SECONDS, Heartbeat
from insend_relay.worker.runtime import EX_SOFTWARE, HINT_MS, Process, Runtime
from insend_relay.worker.systemd import notify

logger = logging.getLogger(__name__)

WAKE_SECONDS = 1.0
BUSY_SECONDS = 0.02
REPLAYS_SECONDS = 1.0  # between two looks for a replay that nobody goes on with
CLOCK_SECONDS = 1.0  # between two looks for what a step back of Redis's clock has left
HUNG_SECONDS = 60.0  # at least
HUNG_TIMEOUTS = 2.5  # of a POST, at least: a process in its quarantine turn lets POSTs end, then sends one
ITSELF_SECONDS = 2.0  # how long it delivers itself before it looks around
BROKER_SECONDS = 30.0  # how long it does without a broker that was away


class Pump(threading.Thread):
    """Turns due lanes into hints until told to stop.

    Args:
        runtime: The worker.
        slots: How many tasks its pool runs at once.
    """

    def __init__(self, runtime: Runtime, slots: int) -> None:
        super().__init__(name="insend-pump", daemon=True)
        self._runtime = runtime
        self._process: Process = runtime.process()
        self._slots = slots
        self._away = False
        self._layout_known = False
        self._broker_from = 0.0
        self._watch_from = 0.0
        self._replays_from = 0.0
        self._heartbeat = Heartbeat(self._process.outbox, self._process.delivery.worker)
        self._heartbeat_from = 0.0
        self._clock_steps = ClockSteps(self._process.outbox)
        self._clock_from = 0.0
        self._pulled_back = (0, 0)
        self._unclaimed_since: float | None = None
        self._hung_seconds = max(HUNG_SECONDS, HUNG_TIMEOUTS * self._process.settings.post_timeout_seconds)
        self._track = runtime.progress.pump()

    def run(self) -> None:
        """The thread's life."""
        while not self._process.stop.asked:
            self._track.step()
            try:
                self._check_layout()
                self._beat()
                self._replays()
                self._follow_clock()
                self._once()
                self._say_back()
            except (NewerLayout, ClusterMode) as error:
                self._leave(str(error))
            except OutboxError as error:
                self._unclaimed_since = None
                self._say_away(error)
                time.sleep(WAKE_SECONDS)
            except Exception:
                logger.exception("a defect of the pump; it goes on")
                time.sleep(WAKE_SECONDS)

    def _check_layout(self) -> None:
        if not self._layout_known:
            self._process.outbox.check_layout()
            self._layout_known = True

    def _beat(self) -> None:
        """Say that this worker is alive, every few seconds."""
        if time.monotonic() < self._heartbeat_from:
            return
        jumped = self._heartbeat.beat()
        self._heartbeat_from = time.monotonic() + HEARTBEAT_SECONDS
        if jumped:
            logger.critical("Redis has lost events that it had accepted: see `insend status`")

    def leave(self) -> None:
        """The worker has stopped: it is not to be looked for."""
        with contextlib.suppress(OutboxError):
            self._heartbeat.leave()

    def _once(self) -> None:
        """Wait for work, and tell of it."""
        outbox = self._process.outbox
        if self._busy():
            time.sleep(BUSY_SECONDS)
            if time.monotonic() > self._watch_from:
                self._watch(outbox.look(0)[1])
            return
        outbox.read("BLPOP", outbox.keys.wake, WAKE_SECONDS)
        if self._process.stop.asked or self._busy():
            return
        publish, unclaimed_ms = outbox.look(HINT_MS)
        self._watch(unclaimed_ms)
        if publish:
            self._publish()

    def _replays(self) -> None:
        """See to it that a replay goes on whose message was lost, or that was just handed over."""
        if time.monotonic() < max(self._replays_from, self._broker_from):
            return
        self._replays_from = time.monotonic() + REPLAYS_SECONDS
        if run := overdue(self._process.outbox):
            with self._without_broker():
                self._process.publish_replay(*run)

    def _follow_clock(self) -> None:
        """Make due again what a step back of Redis's clock has left too far ahead; about once a second."""
        if time.monotonic() < self._clock_from:
            return
        found = self._clock_steps.pull_back()
        apps, lanes = self._pulled_back[0] + found.apps, self._pulled_back[1] + found.lanes
        if self._clock_steps.more:
            self._pulled_back = apps, lanes
            return
        self._pulled_back = 0, 0
        self._clock_from = time.monotonic() + CLOCK_SECONDS
        if apps or lanes:
            text = "Redis's clock was set back; what was scheduled too far ahead is due again: %d visitors, %d apps"
            logger.warning(text, lanes, apps)

    def _busy(self) -> bool:
        """Whether every slot of the pool is taken, or a delivery runs in this very process."""
        return len(state.reserved_requests) >= self._slots or self._process.delivery.running

    def _watch(self, unclaimed_ms: int) -> None:
        """Leave when lanes were unclaimed in all that this pump has seen for so long, by its own clock.

        How long they have lain there does not matter: nobody may have been running, or Redis may have been away.
        """
        now = time.monotonic()
        self._watch_from = now + WAKE_SECONDS
        if unclaimed_ms < self._hung_seconds * 1000:
            self._unclaimed_since = None
        elif self._unclaimed_since is None:
            self._unclaimed_since = now
        elif now - self._unclaimed_since > self._hung_seconds:
            self._leave(f"lanes have been due for {unclaimed_ms // 1000} s and nobody claims them")

    def _publish(self) -> None:
        if time.monotonic() >= self._broker_from:
            with self._without_broker():
                self._process.publish()
                return
        self._process.delivery.run(ITSELF_SECONDS)

    @contextlib.contextmanager
    def _without_broker(self) -> Iterator[None]:
        """A message that cannot be published is not needed, or will be sent again."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever a broker's library may raise
            logger.warning("the broker takes no message (%s): delivering without it", type(error).__name__)
            self._broker_from = time.monotonic() + BROKER_SECONDS

    def _leave(self, why: str) -> None:
        """End the worker; if it hangs, ``Runtime.watch_stop`` ends it."""
        logger.critical("leaving: %s", why)
        self._runtime.fail()
        state.should_stop = EX_SOFTWARE  # what Celery's own signal handler does, with another exit code

    def _say_away(self, error: OutboxError) -> None:
        if not self._away:
            logger.warning("the outbox is away: %s", error)
        self._away = True

    def _say_back(self) -> None:
        if self._away:
            logger.warning("the outbox is back")
        self._away = False


class PumpStep(bootsteps.StartStopStep):
    """Starts the pump once the worker has its pool."""

    requires = ("celery.worker.components:Pool",)
    _pump: Pump | None = None

    def start(self, worker: Any) -> None:
        """The pool is up."""
        threading.Thread(target=worker.app.runtime.watch_stop, name="insend-last-resort", daemon=True).start()
        self._pump = Pump(worker.app.runtime, worker.pool.num_processes)
        self._pump.start()
        worker.app.runtime.flush_spool()
        worker.app.runtime.show_health()

    def stop(self, worker: Any) -> None:
        """The worker shuts down, for whatever reason."""
        notify("STOPPING=1")
        worker.app.runtime.stop()
        worker.app.runtime.finish()
        if self._pump is not None:
            self._pump.leave()

    terminate = stop
