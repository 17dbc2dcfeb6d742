"""From the arguments of a call to an event: whose it is and on which page, by the call and by ``with visitor()``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from insend_relay.producers.events import Events, Id, R
from insend_relay.producers.request import Request, current
from insend_relay.producers.validation import Event
from insend_relay.producers.visitor import Visitor


class Said(NamedTuple):
    """What ``with visitor()`` says.

    Attributes:
        visitor: The visitor and the page.
        request: The web request in which it was said. asyncio may start a request in a copy of the context of the one
            before it (https://github.com/python/cpython/issues/140947); what was said there must not count here.
    """

    visitor: Visitor
    request: Request | None

    def here(self) -> Visitor:
        """The visitor, if it was said in this request or outside of any."""
        return self.visitor if self.request is None or self.request is current() else NOBODY


NOBODY = Visitor()
NOTHING = Said(NOBODY, None)


class Asked(NamedTuple):
    """A call: an event as its caller gave it, and the request in which it was made.

    Attributes:
        event: The event; its visitor is what the call and ``with visitor()`` say.
        idempotency_key: The caller's name for it.
        request: The web request, if the call was made in one.
    """

    event: Event
    idempotency_key: str | None
    request: Request | None

    @property
    def names_somebody(self) -> bool:
        """Whether the call says whose event it is."""
        return self.event.visitor.visitor_uid is not None or self.event.visitor.guest_uid is not None

    @property
    def asks_who(self) -> Request | None:
        """The request whose logged-in visitor matters here."""
        request = self.request
        return request if request is not None and (request.opted_out or not self.names_somebody) else None


class Calls(Events[R]):
    """All the ways of calling; what becomes of a call is its subclass's business.

    Args:
        visitor: Where ``with visitor()`` keeps its visitor; one of its own when left out.
    """

    def __init__(self, visitor: ContextVar[Said] | None = None) -> None:
        self._visitor = visitor or ContextVar("insend_visitor", default=NOTHING)

    def event(
        self,
        type: str,
        properties: Mapping[str, Any] | None = None,
        visitor_info: Mapping[str, Any] | None = None,
        *,
        visitor_uid: Id | None = None,
        guest_uid: str | None = None,
        url: str | None = None,
        path: str | None = None,
        title: str | None = None,
        referrer: str | None = None,
        host: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        strict: bool = True,
    ) -> R:
        """Take one event; when this returns a receipt, it is kept.

        Args:
            type: The event type, such as ``purchase``.
            properties: The event's own fields; ``event_types`` lists them.
            visitor_info: What is known about the visitor. None is left out; ``ERASE`` erases a field.
            visitor_uid: The registered visitor, ``[0-9a-z-]``. Naming either uid replaces both of ``with visitor()``
                and of the web request.
            guest_uid: The guest. Both uids at once mean: this guest has become this visitor.
            url: The page's full address; likewise path, title and referrer.
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
        said = Visitor(visitor_uid, guest_uid, url, path, title, referrer, host)
        return self._take(Event(type, properties, visitor_info, attributes, said, strict), idempotency_key)

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
        return self._take(Event(type, properties, visitor_info, None, NOBODY, faults=(fault,)), None)

    def _take(self, event: Event, idempotency_key: str | None) -> R:
        outer = self._visitor.get().here()
        if outer is not NOBODY:
            event = event._replace(visitor=event.visitor.within(outer))
        return self.take(Asked(event, idempotency_key, current()))

    @contextmanager
    def visitor(
        self,
        *,
        visitor_uid: Id | None = None,
        guest_uid: str | None = None,
        url: str | None = None,
        path: str | None = None,
        title: str | None = None,
        referrer: str | None = None,
        host: str | None = None,
    ) -> Iterator[None]:
        """Events inside the ``with`` are about this visitor and page; a call's own arguments go first.

        It holds for this thread, asyncio task or greenlet. One inside another adds to it; see ``Visitor.within``.
        """
        outer = self._visitor.get()
        inner = Visitor(visitor_uid, guest_uid, url, path, title, referrer, host).within(outer.here())
        self._visitor.set(Said(inner, current()))
        try:
            yield
        finally:
            self._visitor.set(outer)  # not reset(token): a framework may end a request in another context

    @abstractmethod
    def take(self, asked: Asked) -> R:
        """What every call comes to; a binding may bring its own calls here."""
