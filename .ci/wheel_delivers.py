"""Send an event and deliver it with another environment's ``insend``: ``wheel_delivers.py PATH_OF_INSEND``."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.console.sandbox.sandbox import Sandbox

SECONDS = 300.0
ANY_DISK = {"appendfsync": "no"}  # a slow one must not decide


def main(insend: str) -> None:
    """Exit with a text when the event does not arrive."""
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedRedis(Path(folder), config=ANY_DISK) as redis,
        Sandbox() as sandbox,
    ):
        given = {"INSEND_APP_KEY": "check", "INSEND_DOMAIN": "shop.example.com", "INSEND_REDIS_URL": redis.url}
        given |= {"INSEND_TRACKER_URL": sandbox.url, "INSEND_STOP_SECONDS": "100"}  # nor a slow processor
        environ = {**os.environ, **given, "NO_PROXY": "127.0.0.1"}
        event = ["send", "custom", "--visitor-uid", "42", "--properties", '{"key": "signed_up"}']
        subprocess.run([insend, *event], env=environ, check=True, stdout=subprocess.DEVNULL)
        with (Path(folder) / "worker.log").open("w") as log:
            worker = subprocess.Popen([insend, "worker"], env=environ, stdout=log, stderr=log)
        give_up = time.monotonic() + SECONDS
        while not sandbox.received and time.monotonic() < give_up:
            time.sleep(0.05)
        worker.terminate()
        try:
            code = worker.wait(SECONDS)
        except subprocess.TimeoutExpired:
            worker.kill()
            code = worker.wait()
        if not sandbox.received or code != 0:
            sys.exit(f"received {sandbox.totals}, the worker ended with {code}:\n{Path(log.name).read_text()}")


if __name__ == "__main__":
    main(sys.argv[1])
