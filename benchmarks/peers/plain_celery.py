"""A plain Celery task per event, set up to lose as little as its documentation offers.

- ``acks_late`` and ``task_reject_on_worker_lost``: a message is acknowledged when its task has ended, and given back
  when a pool process dies.
- ``visibility_timeout`` 5 s: what a killed worker had not acknowledged is given out again after that.
- ``unacked_restore_interval`` and ``unacked_restore_throttle`` 1: kombu looks for such messages every second. By
  default it looks every 100 s, so the short visibility time-out alone would do little.
- ``unacked_mutex_expire`` 5 s instead of 300: a worker that is killed while it looks cannot stop the others.
- ``worker_prefetch_multiplier`` 1: few messages lie in a worker that is killed.
- Any failure is tried again, after 1 s, 2 s, 4 s, ... up to 5 min, for ever.

Worker: ``celery -A plain_celery worker --concurrency 2 --without-gossip --without-mingle --without-heartbeat``, the
default pool (prefork) and as many processes as cores, its default; without mingle a restart takes a second less.
"""

from __future__ import annotations

import functools
import os

import requests
from celery import Celery
from peer_event import POST_SECONDS, RECOVERY_SECONDS, check, form, produce, tracker_url, write_payload

app = Celery("plain_celery", broker=os.environ.get("REDIS_URL"))
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "visibility_timeout": RECOVERY_SECONDS,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "unacked_mutex_expire": RECOVERY_SECONDS,
    },
    task_acks_late=True,
    task_ignore_result=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
)


@functools.cache
def _session() -> requests.Session:
    """One for each pool process, which runs one task at a time."""
    return requests.Session()


@app.task(
    name="deliver",
    autoretry_for=(Exception,),
    max_retries=None,
    retry_backoff=True,
    retry_backoff_max=300,
)
def deliver(payload: str) -> None:
    """Post one event."""
    check(_session().post(tracker_url(), data=form(payload), timeout=POST_SECONDS, allow_redirects=False).status_code)


if __name__ == "__main__":
    produce(lambda person, number: deliver.delay(write_payload(person, number)).id)
