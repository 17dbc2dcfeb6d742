"""What a page of the example shops takes while Redis is there, and once it is gone; milliseconds.

Each shop runs under its production server with two processes. A page that sends one event is opened again and again;
then Redis is killed, or frozen (so looks a network that swallows everything), and the same page is opened on. A process
notices at its first event, and its later events fail at once: two pages may be slow, no more.
"""

from __future__ import annotations

import http.client
import itertools
import os
import runpy
import signal
import statistics
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from insend_relay.console.sandbox.embedded import EmbeddedRedis

REPOSITORY = Path(__file__).resolve().parent.parent
SHOPS = ("django", "flask", "fastapi")
VIEWS = 300
HEADERS = {"Cookie": "convead_guest_uid=G.1", "Connection": "close"}
ALLOWED_FIRST_MS, ALLOWED_LATER_MS = 300.0, 10.0
GONE = {"killed": signal.SIGKILL, "frozen": signal.SIGSTOP}


def views(address: str, number: int) -> list[float]:
    """Open the page that often; how long each took, in milliseconds."""
    parts = urlsplit(address)
    taken = []
    for _ in range(number):
        start = time.perf_counter()
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
        connection.request("GET", "/p/1", headers=HEADERS)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        taken.append((time.perf_counter() - start) * 1000)
        if answer.status != http.HTTPStatus.OK:
            raise SystemExit(f"{address} answered {answer.status}")
    return taken


def measure(shop: str, how: str, folder: Path) -> None:
    """Print one shop's figures."""
    start = runpy.run_path(str(REPOSITORY / "examples" / "start.py"), run_name="start")
    with EmbeddedRedis(folder / "redis") as redis, start["listen"]() as listener, (folder / "log").open("wb") as log:
        given = {"INSEND_REDIS_URL": redis.url, "INSEND_APP_KEY": "demo-key", "INSEND_DOMAIN": "shop.example.com"}
        environ = {**os.environ, **given, "SHOP_DATABASE": str(folder / "shop.sqlite3")}
        with start["server"](shop, environ, listener, log.fileno()) as process:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
            start["answers"](address, lambda: process.poll() is not None)
            views(address, VIEWS)  # warm
            usual = statistics.median(views(address, VIEWS))
            os.kill(redis.pid, GONE[how])
            away = [taken - usual for taken in views(address, VIEWS)]
    slow = sum(more > ALLOWED_LATER_MS for more in away)
    print(
        f"{shop:8} usual {usual:5.1f}   Redis {how}: slowest of {VIEWS} {max(away):+7.1f} (allowed "
        f"{ALLOWED_FIRST_MS:+.0f})   median {statistics.median(away):+5.1f}   over {ALLOWED_LATER_MS:+.0f}: {slow}"
    )


def main() -> None:
    """All three shops."""
    for shop, how in itertools.product(SHOPS, GONE):
        with tempfile.TemporaryDirectory() as folder:
            measure(shop, how, Path(folder))


if __name__ == "__main__":
    main()
