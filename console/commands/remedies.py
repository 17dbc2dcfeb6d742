"""What an operator does about each fault on the way to the tracker, in a sentence. None for what ends by itself.

`insend status`, `insend visitor` and `insend doctor` show it, so it does not say to look at the first two.

A pause that should end by itself needs a person too when it lasts, or when no event of the app was ever delivered: then
the cause may be a wrong port, or a firewall.
"""

from __future__ import annotations

from insend_relay.operations.newer import Newer
from insend_relay.operations.status import Paused, span
from insend_relay.outbox.fault import Fault

NEWER_SECONDS = 60  # while releases change, a newer worker has come by then
LONG_SECONDS = 3_600  # a failure that ends by itself has ended by then, or a person looks why not
_REMEDIES: dict[Fault, str] = {
    "key": "The tracker does not accept the application's key: check INSEND_APP_KEY in the account.",
    "address": "Nothing at INSEND_TRACKER_URL takes events: check it and restart the workers.",
    "redirect": (
        "No redirect is followed: if the new address is the tracker's, set INSEND_TRACKER_URL to it and restart the "
        "workers."
    ),
    "certificate": (
        "Check the certificate, REQUESTS_CA_BUNDLE and the clock of the workers' machine; `insend doctor` there tests "
        "the connection."
    ),
    "proxy": "Check the proxy's address, user and password in HTTPS_PROXY and restart the workers.",
    "host": "Check INSEND_TRACKER_URL, HTTPS_PROXY and the name server of the workers' machine.",
    "refusal": (
        "The tracker refuses the events: its answer says what is wrong with them. Correct it where they are made "
        "(often INSEND_DOMAIN), and those that have died by `insend dead edit`, or by `insend dead export` and `insend "
        "send --file`."
    ),
}


def remedy(fault: Fault | None) -> str | None:
    """What to do about a fault; None when it ends by itself, and for an app that an operator has paused."""
    return None if fault is None else _REMEDIES.get(fault)


def newer_advice(newer: Newer, reads: int) -> str | None:
    """What a person has to do about events of a newer release; None while its workers may just be starting.

    Args:
        newer: The events.
        reads: The highest version of records that a worker that is alive reads.
    """
    if newer.seconds < NEWER_SECONDS:
        return None
    return f"Start a worker of that release: its records have version {newer.version}, the workers read up to {reads}."


def advice(paused: Paused, now_ms: int) -> str | None:
    """What a person has to do about an app's pause; None while it ends by itself, or by `insend resume`."""
    if paused.operator:
        return None
    if todo := remedy(paused.fault):
        return todo
    if paused.delivered_at_ms is None:
        return (
            "No event of this app was ever delivered: check INSEND_TRACKER_URL; `insend doctor` tests the connection."
        )
    seconds = (now_ms - paused.since_ms) / 1000
    if seconds < LONG_SECONDS:
        return None
    return (
        f"It has lasted for {span(seconds)}: check INSEND_TRACKER_URL and the firewall (`insend doctor` tests the "
        "connection), or ask InSend."
    )
