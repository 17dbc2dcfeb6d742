"""How a subcommand gets at the outbox: the settings from the environment, and a client that is closed afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from insend_relay.outbox.connection import connect
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox


@contextmanager
def open_outbox(settings: Settings | None = None) -> Iterator[Outbox]:
    """The outbox that the settings name; SettingsError, or OutboxError when it cannot be used. Writes nothing."""
    settings = settings or Settings.from_env()
    with connect(settings.redis_url) as client:
        outbox = Outbox(client, namespace=settings.namespace)
        outbox.read_layout()  # not claimed: a look only looks, and the namespace may be mistyped
        yield outbox
