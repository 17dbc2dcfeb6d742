"""A taskiq task per event, on Redis streams, set up to lose as little as its documentation offers.

- ``RedisStreamBroker``: of taskiq-redis's brokers the one that acknowledges, by default when a task has ended.
- ``consumer_id`` "0": messages that came before the first worker are read too.
- Any failure is tried again, 20 times, by SimpleRetryMiddleware: at once, because this broker knows no delay.
  (SmartRetryMiddleware waits, with a scheduler process beside the workers.)

With ``RECOVER_SECONDS`` (5, say):

- ``idle_timeout`` 5 s instead of 10 min: what nobody has acknowledged for so long is claimed by another worker. A
  worker looks for it only when it has just read new messages (taskiq-redis 1.2.4); there is no option for this.
- ``unacknowledged_lock_timeout`` 5 s instead of never: a worker that is killed while it claims cannot stop the others.

For speed: uvloop, which the worker uses where it is installed; ORJSONSerializer; hiredis; one aiohttp session for each
process, taken from the broker's state and not by a dependency, which would cost about 20 us; no result backend.

Worker: ``taskiq worker plain_taskiq:broker --workers 2``: as many processes as cores, and up to 100 tasks at a time in
each, its default. ``--no-parse``, because the arguments need no conversion.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

import aiohttp
import uvloop
from peer_event import (
    POST_SECONDS,
    cart_payload,
    check,
    drip_seconds,
    form,
    people,
    produce,
    recover_seconds,
    tell,
    tracker_url,
)
from taskiq import SimpleRetryMiddleware, TaskiqEvents, TaskiqState
from taskiq.serializers import ORJSONSerializer
from taskiq_redis import RedisStreamBroker

recover = recover_seconds()
quickly: dict[str, Any] = (
    {} if recover is None else {"idle_timeout": recover * 1000, "unacknowledged_lock_timeout": recover}
)
broker = (
    RedisStreamBroker(os.environ.get("REDIS_URL", ""), consumer_id="0", **quickly)
    .with_serializer(ORJSONSerializer())
    .with_middlewares(SimpleRetryMiddleware(default_retry_count=20, default_retry_label=True))
)


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def _open(state: TaskiqState) -> None:
    state.session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),  # by default 100: fewer than there may be tasks
        timeout=aiohttp.ClientTimeout(total=POST_SECONDS),
    )


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def _close(state: TaskiqState) -> None:
    await state.session.close()


@broker.task(task_name="deliver")
async def deliver(person: str, payload: str) -> None:
    """Post one event."""
    session: aiohttp.ClientSession = broker.state.session
    async with session.post(tracker_url(), data=form(person, payload), allow_redirects=False) as answer:
        await answer.read()
        check(answer.status)


async def _timed(person: str) -> float:
    """What a call takes in a running event loop, as in a web application; milliseconds."""
    payload = cart_payload(person)
    start = time.perf_counter()
    await deliver.kiq(person, payload)
    return (time.perf_counter() - start) * 1000


async def _measure(events: int) -> list[float]:
    return [await _timed(person) for person in people(events, 1)]


async def _drip(events: int) -> list[tuple[float, float]]:
    taken = []
    for person in people(events, 1):
        await asyncio.sleep(drip_seconds())
        taken.append((await _timed(person), time.monotonic()))
    return taken


def main() -> None:
    """Do what the command line says, one event after the other."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(broker.startup())
        match sys.argv[1:]:
            case ["measure", events]:
                tell(runner.run(_measure(int(events))))
            case ["drip", events]:
                tell(runner.run(_drip(int(events))))
            case _:
                produce(lambda person, payload: runner.run(deliver.kiq(person, payload)).task_id)
        runner.run(broker.shutdown())


if __name__ == "__main__":
    main()
