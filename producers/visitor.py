"""Who an event is about and on which page it happened: for the calls inside ``with insend.visitor(...)``.

It is kept in a ContextVar, so that each thread, asyncio task and greenlet has its own.
"""

from __future__ import annotations

from typing import NamedTuple

from insend_relay.producers.json_writer import type_name


class Visitor(NamedTuple):
    """A visitor and the page. None means "not said"; an empty string means "none", and hides an outer one.

    Attributes:
        visitor_uid: The registered visitor's id; only ``[0-9a-z-]``, or an int.
        guest_uid: The guest's id: the cookie ``convead_guest_uid``.
        url: The page's full address.
        path: Its path.
        title: Its title.
        referrer: The page before it.
        host: The site's host, with its port.
    """

    visitor_uid: str | int | None = None
    guest_uid: str | None = None
    url: str | None = None
    path: str | None = None
    title: str | None = None
    referrer: str | None = None
    host: str | None = None

    def within(self, outer: Visitor) -> Visitor:
        """This one, with what it does not say taken from ``outer``.

        Both uids count as one statement: naming either replaces both, so that an event about somebody else never
        tells the tracker that the guest of this request has become that visitor.
        """
        said = self.visitor_uid is not None or self.guest_uid is not None
        who = self if said else outer
        return Visitor(
            visitor_uid=who.visitor_uid,
            guest_uid=who.guest_uid,
            url=outer.url if self.url is None else self.url,
            path=outer.path if self.path is None else self.path,
            title=outer.title if self.title is None else self.title,
            referrer=outer.referrer if self.referrer is None else self.referrer,
            host=outer.host if self.host is None else self.host,
        )

    def __repr__(self) -> str:
        # Whoever logs this object must not log a person by it.
        said = (f"{name}={type_name(value)}" for name, value in self._asdict().items() if value is not None)
        return f"Visitor({', '.join(said)})"
