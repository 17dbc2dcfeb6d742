"""What is wrong on the way to the tracker: whether it ends by itself, or what a person has to change.

A worker finds the fault in the answer to a POST, ``fail.lua`` stores it with the pause of the app, and the console
says what to do about it (``console/commands/remedies.py``).

    passing      429, 408, 425, 5xx, a time-out, a refused or broken connection: it ends by itself
    key          401, 403: the tracker does not accept the application's key
    address      404, 405, 410: there is nothing at INSEND_TRACKER_URL that takes events
    redirect     3xx: the tracker has moved; no redirect is followed, so that no event goes to another host
    certificate  the certificate of the tracker, or of a proxy that is reached by TLS, is not valid or not trusted
    proxy        407: the proxy does not accept its user and password, or 4xx: it refuses to connect to the tracker
    host         the name of the tracker or of the proxy does not exist
    refusal      any other answer but 200: the tracker refuses the events
"""

from __future__ import annotations

from typing import Literal, get_args

Fault = Literal["passing", "key", "address", "redirect", "certificate", "proxy", "host", "refusal"]


def fault_of(name: str) -> Fault:
    """A stored fault; one that a newer release has written counts as ``refusal``, for which a person is asked."""
    return next((fault for fault in get_args(Fault) if fault == name), "refusal")


def ends_by_itself(fault: Fault) -> bool:
    """Whether the failure ends without a person, so that it is enough to send probes."""
    return fault == "passing"
