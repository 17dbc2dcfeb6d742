"""A worker process of a chaos run: ``insend worker`` under a clock of its own, in a world that may break under it.

    python chaos_worker.py CLOCK_SECONDS worker

It looks names up as ``chaos_resolver`` does. An event with ``poison`` in its properties kills the
process that is about to send it. With CHAOS_NEWER=1 this is a newer release, which knows records of a version 2;
CHAOS_HUNG_SECONDS says how soon the pump calls its pool hung. Two constants are smaller than in production, for a run
has no time for them: a connection to the tracker may be idle for IDLE_SECONDS, and the longest lease that is possible
is the one that is set, so that what a killed worker had leased is due again so soon after Redis's clock was set back.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chaos_resolver import use_resolver

POISON = "poison"
POISONINGS = "poisonings"  # a file of lines: when, which process, with which pool
NEWER = 2
IDLE_SECONDS = 4.0
sleep = time.sleep  # the real one: gevent will put its own in place


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
    use_resolver(folder)
    if os.environ["INSEND_POOL"] == "gevent":  # as the command does it: before what is patched below is loaded
        from gevent.monkey import patch_all  # noqa: PLC0415 - under the clock and the resolver that were set

        patch_all()
    from insend_relay.worker import idle_connections  # noqa: PLC0415 - under the clock and the resolver that were set

    vars(idle_connections)["MAX_IDLE_SECONDS"] = IDLE_SECONDS  # before others take it over
    from insend_relay.console.commands.main import main as command  # noqa: PLC0415 - likewise
    from insend_relay.outbox import clock_steps, record  # noqa: PLC0415 - likewise
    from insend_relay.worker import pump  # noqa: PLC0415 - likewise
    from insend_relay.worker.tracker import Tracker  # noqa: PLC0415 - likewise

    vars(pump)["HUNG_SECONDS"] = float(os.environ.get("CHAOS_HUNG_SECONDS", pump.HUNG_SECONDS))
    vars(clock_steps)["MAX_LEASE_SECONDS"] = int(float(os.environ["INSEND_LEASE_SECONDS"]))
    setattr(Tracker, "post", poisoned(folder, Tracker.post))  # noqa: B010 - mypy lets no method be assigned
    if os.environ.get("CHAOS_NEWER"):
        newer(record)
    command()


if __name__ == "__main__":
    main()
