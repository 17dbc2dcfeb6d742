"""What tests of deliveries share: events that the sandbox accepts, the ledger, and workers as processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from counting import counts
from waiting import PATIENCE_SECONDS, wait_until

from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox

APP = "app1"
Append = Callable[..., str]
Arrived = list[tuple[str, dict[str, str], bytes]]  # request line, headers, body


def payload(uid: str, number: int, kind: str = "v", type: str = "custom", **properties: Any) -> bytes:
    """The data object of an event that the sandbox accepts."""
    whose = {"visitor_uid" if kind == "v" else "guest_uid": uid}
    about = {"type": type, "domain": "shop.example.com", "host": "shop.example.com"}
    filled = properties or {"key": "seen", "number": number}
    return json.dumps({"app_key": APP, **whose, **about, "properties": filled}, separators=(",", ":")).encode()


def ledger(outbox: Outbox) -> dict[str, int]:
    """The counts of the ledger and of the books."""
    return counts(outbox)


def drained(outbox: Outbox, seconds: float = PATIENCE_SECONDS) -> dict[str, int]:
    """Wait until nothing waits; the ledger then."""
    return wait_until(lambda: (now := ledger(outbox)).get("waiting") == 0 and now, seconds) or {}


class WorkerProcess:
    """``insend worker`` as a process group of its own.

    Args:
        settings: Passed on as INSEND_* variables.
        log: Where its output goes.
    """

    def __init__(self, settings: Settings, log: Path) -> None:
        self.log = log
        changed = {
            f"INSEND_{name.upper()}": str(value)
            for name, value in ((name, getattr(settings, name)) for name in settings.__dataclass_fields__)
            if value != settings.__dataclass_fields__[name].default
        }
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [str(Path(sys.executable).parent / "insend"), "worker"],
                env={**os.environ, **changed},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Wait until Celery says so."""
        wait_until(lambda: " ready." in self.log.read_text() or self.process.poll() is not None)
        assert self.process.poll() is None, self.log.read_text()

    def signal(self, number: signal.Signals, *, group: bool) -> None:
        """Send a signal to the main process, or to its whole group."""
        (os.killpg if group else os.kill)(self.process.pid, number)

    def end(self) -> None:
        """Make sure that nothing of it is left."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
