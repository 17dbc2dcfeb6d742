"""Inside a web request: whose event it is, on which page, and whether that person has opted out."""

from __future__ import annotations

from insend_relay.producers.calls import Asked
from insend_relay.producers.event_types import PAGE_TYPES
from insend_relay.producers.events import Id
from insend_relay.producers.request import Request
from insend_relay.producers.uids import usable_uids
from insend_relay.producers.validation import is_event_type
from insend_relay.producers.visitor import Visitor

NO_ONE = (
    "visitor_uid and guest_uid are both None or empty, so the event is about no one: give the uid of its visitor, or "
    "leave the argument out to use the request"
)


def visitor_of(asked: Asked, request: Request, app_key: str, logged_in: Id | None) -> Visitor:
    """The visitor and the page: what the call gives, and the rest from the request.

    The request's page goes with the request's visitor. An event about another person, such as an ``order_update`` that
    staff send, must not carry the address of an internal page that this person has never seen. The event types of a
    page say by themselves that their visitor is on it.

    Args:
        asked: The call.
        request: Its request.
        app_key: The account that gets the event.
        logged_in: The visitor of ``asked.asks_who``; None for a guest.
    """
    if not asked.scope.names_visitor:
        visitor_uid, guest_uid = request.uids(app_key, logged_in)
        return asked.scope.visitor(request.page)._replace(visitor_uid=visitor_uid, guest_uid=guest_uid)
    if is_event_type(asked.event.type) and asked.event.type in PAGE_TYPES:
        return asked.scope.visitor(request.page)
    return asked.event.visitor


def is_opted_out(asked: Asked, logged_in: Id | None) -> bool:
    """Whether the event is about the person in front of a browser that does not want to be tracked.

    An event that names another person than the one who is logged in there is not: staff who opted out for themselves
    still ship their customers' orders. Nor is an event that names no one.
    """
    if asked.request is None or not asked.request.opted_out:
        return False
    if not asked.scope.names_visitor:
        return True
    if asked.scope.names_no_one:
        return False
    at_screen, _ = usable_uids(Visitor(logged_in))
    if not at_screen:
        return True  # a login form that names the customer whom it has just found
    visitor_uid, guest_uid = usable_uids(asked.event.visitor)
    return visitor_uid == at_screen if visitor_uid else bool(guest_uid) and guest_uid == asked.request.guest_uid
