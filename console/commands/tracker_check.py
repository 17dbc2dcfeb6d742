"""Whether the tracker can be reached from here: a connection as a worker's POST makes it, with no event sent.

The worker's own client opens it: the same proxy, the same trust (REQUESTS_CA_BUNDLE), the same TLS handshake.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import gevent

from insend_relay.console.commands.finding import Finding
from insend_relay.console.commands.remedies import remedy
from insend_relay.outbox.errors import SettingsError
from insend_relay.outbox.settings import Settings
from insend_relay.worker.outcome import Outcome
from insend_relay.worker.tracker import Tracker

_SECONDS = 5.0


def check_tracker(settings: Settings) -> Finding:
    """A finding about the way to the tracker."""
    url = urlsplit(settings.tracker_url)
    place = f"{url.hostname}:{url.port or (443 if url.scheme == 'https' else 80)}"
    try:
        tracker = Tracker(settings.tracker_url, timeout_seconds=_SECONDS, connections=1)
    except SettingsError as error:
        return Finding("tracker", "bad", f"no worker can start: {error}")
    try:
        failure: Outcome | None = gevent.spawn(tracker.try_connection).get()
    finally:
        tracker.close()
    by = f"{place} through the proxy {tracker.proxy}" if tracker.proxy else place
    if failure is not None:
        if todo := remedy(failure.fault):
            return Finding("tracker", "bad", f"{by} cannot be reached from here ({failure.answer}). {todo}")
        todo = "workers have to: check INSEND_TRACKER_URL and the firewall"
        text = f"{by} cannot be reached from here ({failure.answer}); {todo}"
        return Finding("tracker", "look", text)
    if url.scheme == "http" and url.hostname not in {"127.0.0.1", "localhost", "::1"}:
        text = f"{by}: without TLS personal data goes in the clear; use https://"
        return Finding("tracker", "look", text)
    return Finding("tracker", "good", f"{by} can be reached{' and its certificate is valid' * (url.scheme == 'https')}")
