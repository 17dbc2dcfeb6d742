"""A taskiq task per event, on Redis streams, set up to lose as little as its documentation offers.

- ``RedisStreamBroker``: of taskiq-redis's brokers the one that acknowledges, by default when a task has ended.
- ``idle_timeout`` 5 s instead of 10 min: what nobody has acknowledged for so long is claimed by another worker. A
  worker looks for it only when it has just read new messages (taskiq-redis 1.2.4); there is no option for this.
- ``unacknowledged_lock_timeout`` 5 s instead of never: a worker that is killed while it claims cannot stop the others.
- ``consumer_id`` "0": messages that came before the first worker are read too.
- Any failure is tried again, 20 times, by SimpleRetryMiddleware: at once, because this broker knows no delay.
  (SmartRetryMiddleware waits, with a scheduler process beside the workers.)

Worker: ``taskiq worker plain_taskiq:broker --workers 2``, with aiohttp: as many processes as cores, and up to 100 tasks
at a time in each, its default.
"""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import aiohttp
from peer_event import POST_SECONDS, RECOVERY_SECONDS, check, form, produce, tracker_url, write_payload
from taskiq import Context, SimpleRetryMiddleware, TaskiqDepends, TaskiqEvents, TaskiqState
from taskiq_redis import RedisStreamBroker

broker = RedisStreamBroker(
    os.environ.get("REDIS_URL", ""),
    consumer_id="0",
    idle_timeout=RECOVERY_SECONDS * 1000,
    unacknowledged_lock_timeout=RECOVERY_SECONDS,
).with_middlewares(SimpleRetryMiddleware(default_retry_count=20, default_retry_label=True))


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def _open(state: TaskiqState) -> None:
    state.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=POST_SECONDS))


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def _close(state: TaskiqState) -> None:
    await state.session.close()


@broker.task(task_name="deliver")
async def deliver(payload: str, context: Annotated[Context, TaskiqDepends()]) -> None:
    """Post one event."""
    session: aiohttp.ClientSession = context.state.session
    async with session.post(tracker_url(), data=form(payload), allow_redirects=False) as answer:
        await answer.read()
        check(answer.status)


def main() -> None:
    """Enqueue as the command line says, one event after the other, as a web request would."""
    with asyncio.Runner() as runner:
        runner.run(broker.startup())

        def enqueue(person: str, number: int) -> str:
            task_id: str = runner.run(deliver.kiq(write_payload(person, number))).task_id
            return task_id

        produce(enqueue)
        runner.run(broker.shutdown())


if __name__ == "__main__":
    main()
