"""``insend.on_commit``: events that are sent when the database transaction commits, and not when it is rolled back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Self

from django.db import transaction

from insend_relay.outbox.errors import InvalidEvent, NotAccepted, SettingsError
from insend_relay.producers.calls import Asked, Calls, Said
from insend_relay.producers.django.request import in_debug
from insend_relay.producers.django.savepoint import own_savepoint
from insend_relay.producers.events import Id
from insend_relay.producers.insend import InSend
from insend_relay.producers.validation import is_event_type
from insend_relay.producers.without_frames import without_frames

_log = logging.getLogger("insend_relay.producers")


class OnCommit(Calls[None]):
    """The calls of ``insend``, which return None: nothing is kept yet.

    An event is checked, and takes its visitor and page, at the call. It is kept when the outermost ``atomic`` of the
    transaction has ended well; at once where there is none.

    An exception at the call would undo the transaction, and an order is worth more than its event. So outside debug
    nothing is raised, inside a web request or not:

    - A bad event becomes a dead letter at the commit. A transaction that is rolled back leaves no letter.
    - Whatever else fails at the call, such as faulty settings, is logged with the event's type. The event is lost.
    - When Redis cannot take the event at the commit, this is logged with the event's id and type. The event is lost
      unless there is a spool.

    In debug and under test the call raises what ``InSend`` raises. ``INSEND_INVALID=raise`` raises InvalidEvent outside
    debug too, and ``bury`` raises it nowhere.

    Args:
        insend: Returns what keeps the events.
        visitor: Where ``with insend.visitor()`` keeps its visitor.
        using: The database whose transaction it is; the default one when left out.
    """

    def __init__(self, insend: Callable[[], InSend], visitor: ContextVar[Said], *, using: str | None = None) -> None:
        super().__init__(visitor)
        self._insend = insend
        self._using = using

    @without_frames
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

    def guest_uid_for(self, order_id: Id) -> str:
        """A stable guest uid for an order that is made without a visitor; see ``Calls.guest_uid_for``.

        Outside debug it raises nothing either: what is wrong is logged, and the uid is "".
        """
        try:
            return self._insend().guest_uid_for(order_id)
        except Exception as error:
            if in_debug():
                raise
            _log_failure("an order of a transaction has no guest uid", error)
            return ""

    def take(self, asked: Asked) -> None:
        """Keep a call's event once the transaction has committed."""
        debug = in_debug()
        try:
            self._keep_later(asked._replace(debug=debug))
        except InvalidEvent:
            raise  # in debug, or by INSEND_INVALID=raise
        except Exception as error:
            if debug:
                raise
            event_type = asked.event.type if is_event_type(asked.event.type) else "?"
            _log_failure(f"an event ({event_type}) of a transaction is not sent", error)

    def _keep_later(self, asked: Asked) -> None:
        with own_savepoint():  # the event may be given as a query, and a query may fail
            event = self._insend().prepare(asked)

        def keep() -> None:
            try:
                event.keep()
            except NotAccepted as error:
                _log.error("event %s (%s) of a committed transaction: %s", event.id, event.type, error)

        # robust: not even a mistake of ours keeps the other hooks of this commit from running. In debug it is to be
        # seen, and so is the application's: an idempotency key that was used for another event.
        transaction.on_commit(keep, using=self._using, robust=not asked.debug)


def _log_failure(what: str, error: Exception) -> None:
    traceback = None if isinstance(error, (InvalidEvent, SettingsError)) else error  # a user's mistake has none
    _log.error("%s: %s", what, error, exc_info=traceback)
