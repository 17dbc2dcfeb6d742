"""Celery's own environment variables do not configure our worker: INSEND_* alone does.

A worker often runs in the shop's environment, where CELERY_BROKER_URL or DJANGO_SETTINGS_MODULE are the shop's. Celery
prefers some of them to the application's configuration, and its command reads names without a prefix too (BROKER_URL,
APP). So ``drop_celery_variables`` removes them all from this process and its children, before Celery is imported.

``tests/worker/test_environment.py`` compares these names with those that the installed Celery reads.
"""

from __future__ import annotations

import os

_PREFIXES = ("CELERY", "KOMBU_", "_MP_FORK_")
_NAMES = frozenset(
    {
        # options of the command `celery`
        "APP",
        "BROKER_URL",
        "CONFIG_MODULE",
        "LOADER",
        "RESULT_BACKEND",
        "SKIP_CHECKS",
        # Celery
        "AUTOSCALE_KEEPALIVE",
        "C_BENCH",
        "C_BENCH_EVERY",
        "C_FAKEFORK",
        "C_FORCE_ROOT",
        "C_IMPDEBUG",
        "C_REMDEBUG",
        "C_STRICT_APP",
        "C_WARN_APP",
        "C_WNOCONF",
        "DJANGO_SETTINGS_MODULE",
        "EVENTLET_NOBLOCK",
        "FORKED_BY_MULTIPROCESSING",
        "MP_LOG",
        "NOSETPS",
        "TIMER_DEBUG",
        "USE_FAST_LOCALS",
        # kombu and billiard
        "DISABLE_TRACEBACKS",
        "DJANGO_PROJECT_DIR",
        "MP_MAIN_FILE",
        "PICKLE_PROTOCOL",
        "REMAP_SIGTERM",
    }
)


def is_celerys(name: str) -> bool:
    """Whether Celery, kombu or billiard may read this variable as configuration."""
    return name.startswith(_PREFIXES) or name in _NAMES


def drop_celery_variables() -> None:
    """Remove Celery's variables from this process; to be called before anything of Celery is imported."""
    for name in [name for name in os.environ if is_celerys(name)]:
        del os.environ[name]
