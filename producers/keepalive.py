"""TCP keep-alive on the producers' connections.

A connection may be idle for hours, and firewalls, NAT and load balancers forget idle connections without a word, some
after 60 s. A probe every 30 s keeps the entry alive, and finds a host that has gone within 45 s. The options are set
on the open socket: what redis-py sets by itself differs between its versions.

TCP_USER_TIMEOUT is not set: a call that gets no answer gives its connection up at its own deadline, long before.
"""

from __future__ import annotations

import socket
from typing import Any

IDLE_SECONDS = 30  # without traffic before the first probe
INTERVAL_SECONDS = 5  # between two probes without an answer
PROBES = 3  # without an answer until the connection is broken
_OPTIONS = (  # each system has some of them; macOS calls the first one TCP_KEEPALIVE
    (("TCP_KEEPIDLE", "TCP_KEEPALIVE"), IDLE_SECONDS),
    (("TCP_KEEPINTVL",), INTERVAL_SECONDS),
    (("TCP_KEEPCNT",), PROBES),
)


def keep_alive(connected: Any) -> None:
    """Set the options on a connected socket; one that is not TCP stays as it is.

    Args:
        connected: A socket, or what asyncio shows of one.
    """
    if connected.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for names, value in _OPTIONS:
        option = next((getattr(socket, name) for name in names if hasattr(socket, name)), None)
        if option is not None:
            connected.setsockopt(socket.IPPROTO_TCP, option, value)
