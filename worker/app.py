"""The Celery application that ``insend worker`` runs.

Its queue is our own, and so is the prefix of its keys: in a Redis shared with a shop's own Celery, that one would take
our messages and discard them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from celery import Celery
from celery.signals import worker_process_shutdown, worker_shutting_down

from insend_relay.outbox.connection import check_server, connect
from insend_relay.outbox.errors import OutboxRefused, OutboxUnreachable
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.worker import log, tasks
from insend_relay.worker.broker import broker_address
from insend_relay.worker.cores import default_processes
from insend_relay.worker.pump import PumpStep
from insend_relay.worker.runtime import LAST_SECONDS, Runtime
from insend_relay.worker.transport import use_our_connections

QUEUE = "insend"
TASKS_AT_ONCE = 2  # under threads and gevent: one deliver, which is many lanes wide, and one replay


def configuration(settings: Settings) -> dict[str, Any]:
    """Celery's settings; each line has its reason."""
    return {
        **broker_address(settings),
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # a broker may be away for a night
        "broker_channel_error_retry": True,  # a full or read-only Redis is no reason to leave
        "broker_pool_acquire_timeout": 5.0,
        "broker_transport_options": {
            "global_keyprefix": f"{settings.namespace}:celery:",
            "socket_timeout": 15.0,  # a broker that vanished without a word must not hold a publish for ever
            "socket_connect_timeout": 5.0,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "connect_retries_timeout": 1,  # a publish tries that long; the pump goes on without the broker
        },
        "task_default_queue": QUEUE,
        "task_create_missing_queues": False,
        "task_ignore_result": True,  # the outbox is the result
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_acks_late": False,  # a hint is not worth delivering twice
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,  # a hint belongs to whoever is free
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        # A pool process that has ended at a stop is not reported as lost: the worker itself has ended before that.
        "worker_lost_wait": settings.stop_seconds + LAST_SECONDS + 1,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_enable_prefetch_count_reduction": False,  # nothing is prefetched
        "worker_hijack_root_logger": True,
        "worker_redirect_stdouts": False,
    }


def make_app(settings: Settings) -> Celery:
    """The Celery application for these settings."""
    use_our_connections()
    app = Celery("insend_relay")
    app.conf.update(configuration(settings))
    app.runtime = runtime = Runtime(app, settings)
    tasks.register(app, runtime, settings)
    app.steps["worker"].add(PumpStep)
    log.connect_signals()  # before the next: what is connected first is called first, and that one ends the process
    worker_shutting_down.connect(lambda **_: runtime.stop(), weak=False)
    worker_process_shutdown.connect(lambda **_: runtime.end_pool_process(), weak=False)
    return app


def worker_arguments(settings: Settings, extra: Sequence[str] = ()) -> list[str]:
    """The arguments of ``celery worker`` for these settings; ``extra`` ones come last and win."""
    prefork = settings.pool == "prefork"
    processes = (settings.processes or default_processes()) if prefork else TASKS_AT_ONCE
    return [
        "--quiet",  # no banner; the line that it is ready comes all the same
        "worker",
        f"--pool={settings.pool}",
        f"--concurrency={processes}",
        "--without-gossip",
        "--without-mingle",
        "--without-heartbeat",
        "--loglevel=INFO",
        *extra,
    ]


def must_be_allowed(settings: Settings) -> None:
    """OutboxRefused when Redis or the broker is there and refuses our user or our keys, or runs in cluster mode.

    No wait ends that, and Celery would log it again and again.
    """
    if settings.broker_url:
        _broker_must_be_usable(settings)
    with connect(settings.redis_url, connections=1) as client, contextlib.suppress(OutboxUnreachable):
        check_server(client)
        outbox = Outbox(client, namespace=settings.namespace)
        outbox.read("HGET", outbox.keys.ledger, "accepted")
        if not settings.broker_url:
            outbox.read("EXISTS", f"{settings.namespace}:celery:{QUEUE}")


def _broker_must_be_usable(settings: Settings) -> None:
    """The outbox does without this broker, but Celery would log an error every second."""
    with connect(settings.broker_url, connections=1) as client, contextlib.suppress(OutboxUnreachable):
        try:
            check_server(client)
        except OutboxRefused as error:
            raise type(error)(str(error).replace("INSEND_REDIS_URL", "INSEND_BROKER_URL")) from None


app = make_app(Settings.from_env())
