"""``insend.on_commit``: events that are sent when the database transaction commits, and not when it is rolled back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Self

from django.db import transaction

from insend_relay.outbox.errors import NotAccepted
from insend_relay.producers.calls import Asked, Calls, Said
from insend_relay.producers.insend import InSend

_log = logging.getLogger("insend_relay.producers")


class OnCommit(Calls[None]):
    """The calls of ``insend``, which return None: nothing is kept yet.

    An event is checked, and takes its visitor and page, at the call: InvalidEvent comes from there. It is kept when the
    outermost ``atomic`` of the transaction has ended well; at once where there is none. When Redis cannot take it then,
    the transaction has happened all the same: the error is logged with the event's id and type, and nothing is raised.

    Args:
        insend: Returns what keeps the events.
        visitor: Where ``with insend.visitor()`` keeps its visitor.
        using: The database whose transaction it is; the default one when left out.
    """

    def __init__(self, insend: Callable[[], InSend], visitor: ContextVar[Said], *, using: str | None = None) -> None:
        super().__init__(visitor)
        self._insend = insend
        self._using = using

    def __call__(  # type: ignore[override]  # an event type: the vendor's pages know of no transactions
        self,
        type: str,
        properties: Mapping[str, Any] | None = None,
        visitor_info: Mapping[str, Any] | None = None,
        **about: Any,
    ) -> None:
        """Send one event of any type: ``insend.on_commit("purchase", {...}, {...})``; see ``event``."""
        self.event(type, properties, visitor_info, **about)

    def using(self, alias: str) -> Self:
        """The same for another database's transaction: ``insend.on_commit.using("orders").purchase(...)``."""
        return type(self)(self._insend, self._visitor, using=alias)

    def take(self, asked: Asked) -> None:
        """Keep a call's event once the transaction has committed."""
        event = self._insend().prepare(asked)

        def keep() -> None:
            try:
                event.keep()
            except NotAccepted as error:
                _log.error("event %s (%s) of a committed transaction: %s", event.id, event.type, error)

        # robust: not even a mistake of ours keeps the other hooks of this commit from running.
        transaction.on_commit(keep, using=self._using, robust=True)
