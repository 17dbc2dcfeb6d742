"""TCP keep-alive: the options of connections that stay open, producers' to Redis and workers' to the tracker.

Firewalls, NAT and load balancers forget an idle connection without a word, some after 60 s. A probe after 15 s without
traffic keeps the connection known to them, and finds a host that has gone within 30 s. The options are set on the
socket itself: what redis-py sets differs between its versions.

TCP_USER_TIMEOUT is not set: a call that gets no answer gives its connection up at its own deadline, long before.
"""

from __future__ import annotations

import socket
from typing import Any

IDLE_SECONDS = 15  # without traffic before the first probe
INTERVAL_SECONDS = 5  # between two probes without an answer
PROBES = 3  # without an answer until the connection is broken
_OPTIONS = (  # each system has some of them; macOS calls the first one TCP_KEEPALIVE
    (("TCP_KEEPIDLE", "TCP_KEEPALIVE"), IDLE_SECONDS),
    (("TCP_KEEPINTVL",), INTERVAL_SECONDS),
    (("TCP_KEEPCNT",), PROBES),
)


def keep_alive(connection: Any) -> None:
    """Set the options on a socket; one that is not TCP stays as it is.

    Args:
        connection: A socket, or what asyncio shows of one.
    """
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for names, value in _OPTIONS:
        option = next((getattr(socket, name) for name in names if hasattr(socket, name)), None)
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
