"""One event on its way into the spool: its call waits for the thread that writes, for a limited time."""

from __future__ import annotations

from collections.abc import Callable

from insend_relay.outbox.entry import Entry, InvalidEntry
from insend_relay.outbox.errors import SpoolError


class SpoolWrite:
    """Not a ``concurrent.futures.Future``: that one holds a lock in which a call may be re-entered.

    Args:
        entry: The event.
        slot: The slot of the call that tried to bring it into Redis, when the outcome is unknown; else "".
        notify: Called once, by the thread that writes, when ``ended`` is True.

    Attributes:
        ended: Whether the outcome is known.
        error: Why the event could not be written; None when it is on disk.
        given_up: Whether the call has given up before the event's turn came: it will not be written.
    """

    def __init__(self, entry: Entry | InvalidEntry, slot: str, notify: Callable[[], None]) -> None:
        self.entry = entry
        self.slot = slot
        self.ended = False
        self.error: SpoolError | None = None
        self._notify = notify
        self._owner: dict[str, str] = {}  # setdefault is one step: the event is written, or given up

    def begin(self) -> bool:
        """The event's turn has come; False when its call has given up."""
        return self._owner.setdefault("owner", "writer") == "writer"

    def give_up(self) -> bool:
        """The call waits no longer; False when the event is being written already."""
        return self._owner.setdefault("owner", "call") == "call"

    def end(self, error: SpoolError | None = None) -> None:
        """The event is on disk, or cannot be."""
        self.error = error
        self.ended = True
        self._notify()

    @property
    def given_up(self) -> bool:
        """See the class."""
        return self._owner.get("owner") == "call"
