"""Who an event is about and on which page it happened.

``VisitorScope`` is what a call or ``with insend.visitor(...)`` gives; ``Visitor`` is what the event carries in the end.
The scope of a ``with`` is kept in a ContextVar, so that each thread, asyncio task and greenlet has its own.
"""

from __future__ import annotations

import uuid
from typing import NamedTuple

from insend_relay.outbox.masked import masked
from insend_relay.producers.not_given import NOT_GIVEN, NotGiven
from insend_relay.producers.plain_values import plain_scalar


@masked()
class Visitor(NamedTuple):
    """A visitor and the page. None and an empty string mean that the event has none.

    Attributes:
        visitor_uid: The registered visitor's id; only ``[0-9a-z-]``, or an int.
        guest_uid: The guest's id: the cookie ``convead_guest_uid``.
        url: The page's full address.
        path: Its path.
        title: Its title.
        referrer: The page before it.
        host: The site's host, with its port.
    """

    visitor_uid: str | int | uuid.UUID | None = None
    guest_uid: str | uuid.UUID | None = None
    url: str | None = None
    path: str | None = None
    title: str | None = None
    referrer: str | None = None
    host: str | None = None


@masked()
class VisitorScope(NamedTuple):
    """The same fields as the program gives them. What is ``NOT_GIVEN`` comes from the scope outside, or the request.

    None and an empty string are given: they mean "none" and hide a value from outside.
    """

    visitor_uid: str | int | uuid.UUID | NotGiven | None = NOT_GIVEN
    guest_uid: str | uuid.UUID | NotGiven | None = NOT_GIVEN
    url: str | NotGiven | None = NOT_GIVEN
    path: str | NotGiven | None = NOT_GIVEN
    title: str | NotGiven | None = NOT_GIVEN
    referrer: str | NotGiven | None = NOT_GIVEN
    host: str | NotGiven | None = NOT_GIVEN

    @property
    def names_visitor(self) -> bool:
        """Whether either uid is given, as None too: then the request has no say in whose event it is."""
        return self.visitor_uid is not NOT_GIVEN or self.guest_uid is not NOT_GIVEN

    @property
    def names_no_one(self) -> bool:
        """Whether the uids are given and both are empty."""
        return self.names_visitor and _is_empty(self.visitor_uid) and _is_empty(self.guest_uid)

    def within(self, outer: VisitorScope) -> VisitorScope:
        """This scope, with what is not given taken from ``outer``.

        The two uids count as one statement: giving either replaces both. Otherwise an event about another person would
        tell the tracker that the guest of ``outer`` has become that person.
        """
        who = self if self.names_visitor else outer
        return VisitorScope(
            visitor_uid=who.visitor_uid,
            guest_uid=who.guest_uid,
            url=outer.url if self.url is NOT_GIVEN else self.url,
            path=outer.path if self.path is NOT_GIVEN else self.path,
            title=outer.title if self.title is NOT_GIVEN else self.title,
            referrer=outer.referrer if self.referrer is NOT_GIVEN else self.referrer,
            host=outer.host if self.host is NOT_GIVEN else self.host,
        )

    def visitor(self, page: Visitor = Visitor()) -> Visitor:  # noqa: B008 - it cannot be changed
        """The visitor and the page, with what is not given about the page taken from ``page``."""
        return Visitor(
            visitor_uid=None if self.visitor_uid is NOT_GIVEN else self.visitor_uid,
            guest_uid=None if self.guest_uid is NOT_GIVEN else self.guest_uid,
            url=page.url if self.url is NOT_GIVEN else self.url,
            path=page.path if self.path is NOT_GIVEN else self.path,
            title=page.title if self.title is NOT_GIVEN else self.title,
            referrer=page.referrer if self.referrer is NOT_GIVEN else self.referrer,
            host=page.host if self.host is NOT_GIVEN else self.host,
        )


def _is_empty(uid: object) -> bool:
    if uid is NOT_GIVEN:
        return True
    uid = plain_scalar(uid)  # a proxy may stand for None, and a lazy text for ""
    return uid is None or (isinstance(uid, str) and not uid.strip())
