"""A plain Celery task per event, set up to lose as little as its documentation offers.

- ``acks_late`` and ``task_reject_on_worker_lost``: a message is acknowledged when its task has ended, and given back
  when a pool process dies.
- Any failure is tried again, after 1 s, 2 s, 4 s, ... up to 5 min, for ever.

With ``RECOVER_SECONDS`` (5, say):

- ``visibility_timeout`` 5 s: what a killed worker had not acknowledged is given out again after that.
- ``unacked_restore_interval`` and ``unacked_restore_throttle`` 1: kombu looks for such messages every second. By
  default it looks every 100 s, so the short visibility time-out alone would do little.
- ``unacked_mutex_expire`` 5 s instead of 300: a worker that is killed while it looks cannot stop the others.
- ``worker_prefetch_multiplier`` 1: few messages lie in a worker that is killed.

For speed: no results, no events; hiredis; a requests.Session for each process, so that connections are kept.

Worker: ``celery -A plain_celery worker --concurrency 2 --without-gossip --without-mingle --without-heartbeat``, the
default pool (prefork) and as many processes as cores, its default; without mingle a restart takes a second less.
``--prefetch-multiplier 64``, which its guide suggests for many short tasks, where nobody is killed.
"""

from __future__ import annotations

import functools
import os

import requests
from celery import Celery
from peer_event import POST_SECONDS, check, form, produce, recover_seconds, tracker_url
from requests.adapters import HTTPAdapter

CONNECTIONS = 512

app = Celery("plain_celery", broker=os.environ.get("REDIS_URL"))
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_acks_late=True,
    task_ignore_result=True,
    task_reject_on_worker_lost=True,
)
if (recover := recover_seconds()) is not None:
    app.conf.worker_prefetch_multiplier = 1
    app.conf.broker_transport_options = {
        "visibility_timeout": recover,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "unacked_mutex_expire": recover,
    }


@functools.cache
def _session() -> requests.Session:
    """One for each process, with a connection for each of its threads or greenlets, where the pool has such."""
    session = requests.Session()
    session.mount("http://", HTTPAdapter(pool_connections=1, pool_maxsize=CONNECTIONS))
    return session


@app.task(
    name="deliver",
    autoretry_for=(Exception,),
    max_retries=None,
    retry_backoff=True,
    retry_backoff_max=300,
)
def deliver(person: str, payload: str) -> None:
    """Post one event."""
    check(
        _session()
        .post(tracker_url(), data=form(person, payload), timeout=POST_SECONDS, allow_redirects=False)
        .status_code
    )


if __name__ == "__main__":
    produce(lambda person, payload: deliver.delay(person, payload).id)
