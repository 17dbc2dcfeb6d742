"""A Dramatiq actor per event, on Redis, set up to lose as little as its documentation offers.

- Dramatiq acknowledges a message when its actor has ended; nothing is to be set for that.
- Any failure is tried again, after 1 s and then ever later, up to 5 min, for ever.

With ``RECOVER_SECONDS`` (5, say):

- ``heartbeat_timeout`` 5 s instead of 60: a process not heard of for so long counts as dead, and what it had fetched
  goes back to the queue.
- ``maintenance_chance`` one command in ten instead of one in a thousand: only maintenance gives it back, and idle
  workers send few commands.

For speed: hiredis; a requests.Session for each thread, so that connections are kept; no Prometheus (not a default).

Worker: ``dramatiq plain_dramatiq --processes 2 --threads 8``: as many processes as cores, its default number of threads
and its default prefetch (two messages a thread). ``dramatiq-gevent`` has greenlets for threads, which costs less.
"""

from __future__ import annotations

import os
import threading

import dramatiq
import requests
from dramatiq.brokers.redis import RedisBroker
from peer_event import POST_SECONDS, check, form, produce, recover_seconds, tracker_url

recover = recover_seconds()
quickly = (
    {} if recover is None else {"heartbeat_timeout": recover * 1000, "maintenance_chance": 100_000}
)  # of a million
dramatiq.set_broker(RedisBroker(url=os.environ.get("REDIS_URL"), **quickly))
_threads = threading.local()


def _session() -> requests.Session:
    """One for each worker thread."""
    if not hasattr(_threads, "session"):
        _threads.session = requests.Session()
    session: requests.Session = _threads.session
    return session


@dramatiq.actor(max_retries=None, min_backoff=1_000, max_backoff=300_000)
def deliver(person: str, payload: str) -> None:
    """Post one event."""
    check(
        _session()
        .post(tracker_url(), data=form(person, payload), timeout=POST_SECONDS, allow_redirects=False)
        .status_code
    )


if __name__ == "__main__":
    produce(lambda person, payload: deliver.send(person, payload).message_id)
