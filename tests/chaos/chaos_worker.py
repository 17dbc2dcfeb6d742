"""A worker process of a chaos run: ``insend worker`` under a clock of its own, in a world that may break under it.

    python chaos_worker.py CLOCK_SECONDS worker

It reaches the tracker by an invented name. While a file ``resolver-hangs`` lies in CHAOS_FOLDER, looking that name up
takes up to ten seconds and then fails, or comes back all the same. An event with ``poison`` in its properties kills the
process that is about to send it. With CHAOS_NEWER=1 this is a newer release, which knows records of a version 2;
CHAOS_HUNG_SECONDS says how soon the pump calls its pool hung.
"""

from __future__ import annotations

import _socket
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TRACKER = "tracker.example.net"
POISON = "poison"
POISONINGS = "poisonings"  # a file of lines: when, which process, with which pool
HANGS = "resolver-hangs"
MOST_HANG_SECONDS = 10.0
NEWER = 2
sleep = time.sleep  # the real one: gevent will put its own in place


def resolver(folder: Path, real: Callable[..., Any]) -> Callable[..., Any]:
    """Look up a name as the system does, but for the tracker's."""

    def getaddrinfo(host: Any, *rest: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name != TRACKER:
            return real(host, *rest, **more)
        give_up = time.monotonic() + MOST_HANG_SECONDS
        hung = False
        while (folder / HANGS).exists() and time.monotonic() < give_up:
            hung = True
            sleep(0.02)
        if hung and os.urandom(1)[0] % 2:
            raise _socket.gaierror(_socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real("127.0.0.1", *rest, **more)

    return getaddrinfo


def poisoned(folder: Path, real: Callable[..., Any]) -> Callable[..., Any]:
    """Send an event, or die of it; what else the process is sending is under way by then."""

    def post(tracker: Any, body: bytes, **options: Any) -> Any:
        if b"%22" + POISON.encode() + b"%22" in body:
            with (folder / POISONINGS).open("a") as log:
                log.write(f"{time.monotonic():.2f} {os.getpid()} {os.environ['INSEND_POOL']}\n")
            sleep(0.02)
            os.kill(os.getpid(), signal.SIGKILL)
        return real(tracker, body, **options)

    return post


def newer(record: Any) -> None:
    """Make the release know a version 2 of the record, laid out like the first."""
    decode = record.decode
    record.VERSION = NEWER
    record.decode = lambda data: decode(bytes([NEWER]) + data[1:] if data[:1] == b"\1" else data)


def main() -> None:
    """Become the worker."""
    clock, folder = float(sys.argv.pop(1)), Path(os.environ["CHAOS_FOLDER"])
    real = time.time
    time.time = lambda: real() + clock
    time.time_ns = lambda: int((real() + clock) * 1e9)
    vars(_socket)["getaddrinfo"] = resolver(folder, _socket.getaddrinfo)
    if os.environ["INSEND_POOL"] == "gevent":  # as the command does it: before what is patched below is loaded
        from gevent.monkey import patch_all  # noqa: PLC0415 - under the clock and the resolver that were set

        patch_all()
    from insend_relay.console.command import main as command  # noqa: PLC0415 - likewise
    from insend_relay.outbox import record  # noqa: PLC0415 - likewise
    from insend_relay.worker import pump  # noqa: PLC0415 - likewise
    from insend_relay.worker.tracker import Tracker  # noqa: PLC0415 - likewise

    vars(pump)["HUNG_SECONDS"] = float(os.environ.get("CHAOS_HUNG_SECONDS", pump.HUNG_SECONDS))
    setattr(Tracker, "post", poisoned(folder, Tracker.post))  # noqa: B010 - mypy lets no method be assigned
    if os.environ.get("CHAOS_NEWER"):
        newer(record)
    command()


if __name__ == "__main__":
    main()
