"""Celery's settings for a worker, where a wrong one would only be seen on a busy machine."""

from __future__ import annotations

import pytest

from insend_relay.outbox.settings import Settings
from insend_relay.worker.app import configuration
from insend_relay.worker.runtime import LAST_SECONDS


@pytest.mark.parametrize("stop_seconds", [0.1, 8.0, 60.0])
def test_a_worker_that_stops_ends_before_celery_reports_its_pool_processes_as_lost(stop_seconds: float) -> None:
    longest = stop_seconds + LAST_SECONDS
    assert configuration(Settings(stop_seconds=stop_seconds))["worker_lost_wait"] > longest
