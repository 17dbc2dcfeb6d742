"""The two Celery tasks.

``worker.deliver`` carries nothing: it is a hint that lanes are due. ``worker.replay`` carries the id of a replay run,
whose filter lies in Redis, and whose turn it is. No results, no retries of Celery's, no ETA: Redis has the schedule. A
message that is lost is sent again by a pump.
"""

from __future__ import annotations

import contextlib
import logging

from celery import Celery

from insend_relay.operations.replay import Replay
from insend_relay.outbox.errors import NotFound, OutboxError
from insend_relay.outbox.settings import Settings
from insend_relay.worker.runtime import Runtime

logger = logging.getLogger(__name__)

REPLAY_SECONDS = 0.5  # how long a replay holds its slot before it queues up again, behind live traffic


def register(app: Celery, runtime: Runtime, settings: Settings) -> None:
    """Give an application its tasks."""

    @app.task(name="worker.deliver")
    def deliver() -> None:
        """Lanes are due: claim them and deliver their events."""
        with runtime.signals_stop() as process:
            try:
                process.delivery.run()
            except OutboxError as error:
                logger.warning("cannot ask the outbox for lanes: %s", error)

    @app.task(name="worker.replay")
    def replay(run_id: str, turn: int = 0) -> None:
        """Go on with a replay run for a while, then queue up again."""
        with runtime.signals_stop() as process:
            try:
                run = Replay.resume(process.outbox, run_id)
                following = run.take_turn(turn)
                if following is None:  # a newer message leads it on
                    return
                progress = run.run(
                    per_second=settings.replay_per_second,
                    stop=lambda: process.stop.asked,
                    budget_seconds=REPLAY_SECONDS,
                )
            except NotFound as error:
                logger.warning("%s", error)
                return
            except OutboxError as error:
                logger.warning("the replay waits for the outbox: %s", error)
                return
        if not progress.finished:
            with contextlib.suppress(Exception):  # whatever a broker's library may raise: a pump will see to it
                process.publish()  # first: where the pool has one slot, what was replayed is delivered in between
                process.publish_replay(run_id, following)
