"""What importing the producers costs a web application."""

from __future__ import annotations

import subprocess
import sys

from waiting import PATIENCE_SECONDS

LOADED = """
import sys
import insend_relay.producers
rooms = ("insend_relay.worker", "insend_relay.console")
heavy = {"celery", "kombu", "requests", "tenacity", "click", "rich", "flask"}
print(sorted(name for name in sys.modules if name in heavy or name.startswith(rooms)))
"""


def test_importing_the_producers_loads_neither_celery_nor_requests() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED], check=True, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert done.stdout.strip() == "[]"


def test_making_an_insend_starts_no_thread_and_opens_no_connection() -> None:
    script = (
        "import threading; from insend_relay.producers import InSend; "
        "InSend(app_key='k', domain='shop.example.com', redis_url='redis://127.0.0.1:1'); "
        "print(threading.active_count())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert done.stdout.strip() == "1"
