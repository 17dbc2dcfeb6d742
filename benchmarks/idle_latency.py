"""How long an event takes from the producer's call to the tracker when nothing else goes on.

A worker as shipped, a durable Redis (appendfsync everysec), a tracker that answers at once. An event every half second
or so, so that worker and producer are idle each time, and the worker has to be woken through the hint. Prints p50, p99
and the worst::

    python benchmarks/idle_latency.py [EVENTS]
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from insend_relay.console.embedded import EmbeddedRedis
from insend_relay.console.sandbox import Received, Sandbox
from insend_relay.producers import InSend

EVENTS = 100
READY_SECONDS = 30.0


def main(events: int) -> None:
    """Measure and print."""
    arrived = threading.Event()
    at = [0.0]

    def note(_: Received) -> None:
        at[0] = time.perf_counter()
        arrived.set()

    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedRedis(Path(folder), config={"appendfsync": "everysec"}) as redis,
        Sandbox(on_event=note) as sandbox,
    ):
        environ = {**os.environ, "INSEND_REDIS_URL": redis.url, "INSEND_TRACKER_URL": sandbox.url}
        insend_command = str(Path(sys.executable).parent / "insend")
        worker = subprocess.Popen([insend_command, "worker"], env=environ, stderr=subprocess.DEVNULL)
        try:
            with InSend(app_key="bench", domain="shop.example.com", redis_url=redis.url) as insend:
                figures = [_one(insend, number, arrived, at) for number in range(events + 1)][1:]  # the first wakes all
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait()
    accepts, arrivals = zip(*figures, strict=True)
    for name, seconds in (("accept (the call)", accepts), ("accept to POST", arrivals)):
        cuts = statistics.quantiles(seconds, n=100)
        figures_ms = f"p50 {cuts[49] * 1e3:7.2f}   p99 {cuts[98] * 1e3:7.2f}   worst {max(seconds) * 1e3:7.2f}"
        print(f"{name:18} {figures_ms}   ms")


def _one(insend: InSend, number: int, arrived: threading.Event, at: list[float]) -> tuple[float, float]:
    """Seconds that the call took, and from its return to the tracker."""
    time.sleep(random.uniform(0.4, 0.8))  # noqa: S311 - so that no rhythm of ours meets one of the worker's
    arrived.clear()
    start = time.perf_counter()
    insend.view_product(visitor_uid=str(number), product_id="123", product_name="A thing", price=125.15)
    accepted = time.perf_counter()
    if not arrived.wait(READY_SECONDS):
        raise SystemExit("the event did not arrive: is the worker up?")
    return accepted - start, at[0] - accepted


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS)
