"""What Redis holds at one moment, to be put back later."""

from __future__ import annotations

from insend_relay.outbox.store import Outbox


class Saved:
    """What a replica or a file holds of a namespace, to be put back later."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._content = {key: outbox.read("DUMP", key) for key in self._keys()}

    def _keys(self) -> list[bytes]:
        found: list[bytes] = self._outbox.read("KEYS", self._outbox.keys.prefix + "*")
        return found

    def put_back(self) -> None:
        """As after a failover, or a start with an old file: all that was written since is lost."""
        self._outbox.read("DEL", *self._keys())
        for key, dump in self._content.items():
            self._outbox.read("RESTORE", key, 0, dump)
