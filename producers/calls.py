"""From the arguments of a call to an event: whose it is and on which page, by the call and by ``with visitor()``."""

from __future__ import annotations

import uuid
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from insend_relay.outbox.masked import masked
from insend_relay.producers.call_site import call_site
from insend_relay.producers.events import Events, Id, R
from insend_relay.producers.not_given import NOT_GIVEN, NotGiven
from insend_relay.producers.plain_values import plain_scalar
from insend_relay.producers.request import Request, current
from insend_relay.producers.validation import Event
from insend_relay.producers.visitor import VisitorScope
from insend_relay.producers.without_frames import without_frames


@masked()
class Said(NamedTuple):
    """What ``with visitor()`` gives.

    Attributes:
        scope: The visitor and the page.
        request: The web request of the block. asyncio may start a request in a copy of the context of the one before
            it (https://github.com/python/cpython/issues/140947); a block of that one must not count here.
    """

    scope: VisitorScope
    request: Request | None

    def here(self) -> VisitorScope:
        """The scope, if the block is in this request or outside of any."""
        return self.scope if self.request is None or self.request is current() else EMPTY


EMPTY = VisitorScope()
NOTHING = Said(EMPTY, None)


@masked()
class Asked(NamedTuple):
    """A call: an event as its caller gave it, and the request in which it was made.

    Attributes:
        event: The event; its visitor is what the call and ``with visitor()`` give.
        scope: The same visitor, with what is not given.
        idempotency_key: The caller's name for it.
        request: The web request, if the call was made in one.
        debug: Outside of a request: whether the application runs in debug or under test; None where that is unknown.
        site: ``file:line`` of the call when it names no one, else "".
    """

    event: Event
    scope: VisitorScope
    idempotency_key: str | None
    request: Request | None
    debug: bool | None = None
    site: str = ""

    @property
    def in_debug(self) -> bool | None:
        """Whether the application runs in debug or under test; None where that is unknown."""
        return self.debug if self.request is None else self.request.debug

    @property
    def asks_who(self) -> Request | None:
        """The request whose logged-in visitor matters here.

        For an event that names its visitor it matters only whether that is the person who opted out in this browser.
        """
        request = self.request
        if request is None or not self.scope.names_visitor:
            return request
        return request if request.opted_out and not self.scope.names_no_one else None


class Calls(Events[R]):
    """All the ways of calling; what becomes of a call is its subclass's business.

    Args:
        visitor: Where ``with visitor()`` keeps its visitor; one of its own when left out.
    """

    def __init__(self, visitor: ContextVar[Said] | None = None) -> None:
        self._visitor = visitor or ContextVar("insend_visitor", default=NOTHING)

    @without_frames
    def event(
        self,
        type: str,
        properties: Mapping[str, Any] | None = None,
        visitor_info: Mapping[str, Any] | None = None,
        *,
        visitor_uid: Id | NotGiven | None = NOT_GIVEN,
        guest_uid: str | NotGiven | None = NOT_GIVEN,
        url: str | NotGiven | None = NOT_GIVEN,
        path: str | NotGiven | None = NOT_GIVEN,
        title: str | NotGiven | None = NOT_GIVEN,
        referrer: str | NotGiven | None = NOT_GIVEN,
        host: str | NotGiven | None = NOT_GIVEN,
        attributes: Mapping[str, Any] | None = None,
        idempotency_key: str | uuid.UUID | None = None,
        strict: bool = True,
    ) -> R:
        """Take one event; when this returns a receipt, it is kept.

        An argument about the visitor or the page that is left out comes from ``with visitor()``, then from the web
        request. None and an empty string are not left out: they mean "none".

        Args:
            type: The event type, such as ``purchase``.
            properties: The event's own fields; ``event_types`` lists them.
            visitor_info: What is known about the visitor. None is left out; ``ERASE`` erases a field.
            visitor_uid: The registered visitor, ``[0-9a-z-]``. Giving either uid, as None too, replaces both of
                ``with visitor()`` and of the web request. If both are empty then, no event is kept (``no_visitor``).
            guest_uid: The guest. Both uids at once mean: this guest has become this visitor.
            url: The page's full address; likewise path, title and referrer. The web request gives them to an event
                about its own visitor, and to ``link``, ``view_product``, ``file`` and ``mailto``.
            path: See ``url``.
            title: See ``url``.
            referrer: See ``url``.
            host: The site's host with its port; by default the url's, else the account's domain.
            attributes: Free.
            idempotency_key: Your name for this event: a second one of that name within a day is a duplicate.
            strict: False sends unknown event types and properties as they are.

        Raises:
            InvalidEvent: It breaks the tracker's rules (``INSEND_INVALID`` says when it is buried instead).
            NotAccepted: Redis could not take it; the text says why.
        """
        scope = VisitorScope(visitor_uid, guest_uid, url, path, title, referrer, host)
        outer = self._visitor.get().here()
        if outer is not EMPTY:
            scope = scope.within(outer)
        site = call_site() if scope.names_no_one else ""
        event = Event(type, properties, visitor_info, attributes, scope.visitor(), strict)
        return self.take(Asked(event, scope, plain_scalar(idempotency_key), current(), site=site))

    @without_frames
    def __call__(
        self,
        command: str,
        type: str,
        properties: Mapping[str, Any] | None = None,
        visitor_info: Mapping[str, Any] | None = None,
        *further: object,
        **about: Any,
    ) -> R:
        """The vendor's JavaScript call, for pasting: ``insend("event", "purchase", {...}, {...})``.

        Args:
            command: ``"event"``; another one is a bad event, and so is a call with ``further`` arguments.
            type: As for ``event``, and so are the others.
            properties: See ``type``.
            visitor_info: See ``type``.
            further: There are none.
            about: See ``type``.
        """
        if command == "event" and not further:
            return self.event(type, properties, visitor_info, **about)
        fault = ("command", 'only insend("event", TYPE, {...}, {...}) is known')
        scope = self._visitor.get().here()
        event = Event(type, properties, visitor_info, None, scope.visitor(), faults=(fault,))
        return self.take(Asked(event, scope, None, current()))

    @contextmanager
    def visitor(
        self,
        *,
        visitor_uid: Id | NotGiven | None = NOT_GIVEN,
        guest_uid: str | NotGiven | None = NOT_GIVEN,
        url: str | NotGiven | None = NOT_GIVEN,
        path: str | NotGiven | None = NOT_GIVEN,
        title: str | NotGiven | None = NOT_GIVEN,
        referrer: str | NotGiven | None = NOT_GIVEN,
        host: str | NotGiven | None = NOT_GIVEN,
    ) -> Iterator[None]:
        """Events inside the ``with`` are about this visitor and page; a call's own arguments go first.

        It holds for this thread, asyncio task or greenlet. A block inside another adds to it. As in a call, None and an
        empty string mean "none", and giving either uid replaces both.
        """
        outer = self._visitor.get()
        inner = VisitorScope(visitor_uid, guest_uid, url, path, title, referrer, host).within(outer.here())
        self._visitor.set(Said(inner, current()))
        try:
            yield
        finally:
            self._visitor.set(outer)  # not reset(token): a framework may end a request in another context

    @abstractmethod
    def guest_uid_for(self, order_id: Id) -> str:
        """A stable guest uid for an order that is made without a visitor, as by phone.

        It depends on the account and the order's id alone, so that a later ``order_update`` finds the same guest. It is
        no secret.

        Args:
            order_id: The order's id, as in ``purchase``; 5001 and "5001" are one order.

        Raises:
            InvalidEvent: ``order_id`` is no id.
        """

    @abstractmethod
    def take(self, asked: Asked) -> R:
        """What every call comes to; a binding may bring its own calls here."""
