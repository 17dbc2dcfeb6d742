"""What systemd is told (sd_notify): ready, alive, stopping. Without NOTIFY_SOCKET nothing is sent.

The protocol is a datagram of ``NAME=value`` to the socket that NOTIFY_SOCKET names. With ``WatchdogSec=`` in the unit,
systemd kills a service that has not sent ``WATCHDOG=1`` within WATCHDOG_USEC; it is sent three times as often, and only
while the worker makes progress. See sd_notify(3) and sd_watchdog_enabled(3).
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable

from insend_relay.worker.health import Health

logger = logging.getLogger(__name__)

SENT_IN_TIME = 3  # messages in the time in which one is wanted


def notify(state: str) -> None:
    """Tell systemd a state, such as ``READY=1``; a systemd that does not listen is nothing to stop for."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as telling:
            telling.sendto(state.encode(), address)
    except OSError as error:
        logger.warning("systemd cannot be told %s: %s", state, error)


def watchdog_seconds() -> float | None:
    """Within what time systemd wants a sign of life; None when it wants none of this process."""
    if os.environ.get("WATCHDOG_PID", "") not in {"", str(os.getpid())}:
        return None
    text = os.environ.get("WATCHDOG_USEC", "")
    return int(text) / 1_000_000 if text.isdecimal() and int(text) else None


class Watchdog(threading.Thread):
    """Gives signs of life while the worker makes progress.

    Args:
        seconds: Within what time one is wanted.
        health: Says how the worker is.
    """

    def __init__(self, seconds: float, health: Callable[[], Health]) -> None:
        super().__init__(name="insend-watchdog", daemon=True)
        self._seconds = seconds
        self._health = health

    def run(self) -> None:
        """The thread's life."""
        said = False
        while True:
            if self._health().good:
                said = False
                notify("WATCHDOG=1")
            elif not said:
                said = True
                logger.critical("this worker makes no progress: systemd gets no sign of life and will kill it")
            time.sleep(self._seconds / SENT_IN_TIME)
