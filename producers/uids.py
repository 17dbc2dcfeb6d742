"""The rules of a visitor's and a guest's uid, and the guest uid of an order that has no visitor."""

from __future__ import annotations

import hmac
from typing import Any

from insend_relay.outbox.errors import InvalidEvent
from insend_relay.outbox.keys import GUEST_UID, VISITOR_UID
from insend_relay.producers.event_types import identifier
from insend_relay.producers.json_writer import Refused, not_a, number, refused
from insend_relay.producers.plain_values import plain_scalar
from insend_relay.producers.visitor import Visitor


def visitor_uid_text(value: Any) -> str:
    """A registered visitor's uid as it is sent; "" when there is none."""
    if type(value) is not str:
        value = plain_scalar(value)
    if value is None:
        return ""
    if type(value) is int:
        value = number(value)
    elif type(value) is not str:
        raise not_a("a string or a whole number", value)
    uid: str = value.strip()
    if not uid or VISITOR_UID.match(uid):
        return uid
    if VISITOR_UID.match(uid.lower()):
        raise refused("capital letters are not allowed (0-9, a-z, -): write it in small letters, everywhere alike")
    raise refused("must be 1 to 128 of 0-9, a-z and -; derive such an id from yours (a hash does)")


def guest_uid_text(value: Any) -> str:
    """A guest's uid as it is sent; "" when there is none."""
    if type(value) is not str:
        value = plain_scalar(value)
    if value is None:
        return ""
    if type(value) is not str:
        raise not_a("a string", value)
    uid: str = value.strip()
    if not uid or GUEST_UID.match(uid):
        return uid
    raise refused("must be 1 to 128 of 0-9, A-Z, a-z, '.', '_' and -, as in the cookie convead_guest_uid")


def usable_uids(visitor: Visitor) -> tuple[str, str]:
    """The uids of an event that breaks the rules, each "" unless it keeps them itself."""
    return _usable(visitor_uid_text, visitor.visitor_uid), _usable(guest_uid_text, visitor.guest_uid)


def guest_uid_for_order(app_key: str, order_id: Any) -> str:
    """A stable guest uid for an order that is made without a visitor: ``order-`` and 32 hex digits of an HMAC-SHA256.

    Args:
        app_key: The application's key: two accounts have different uids for one order id.
        order_id: The order's id, as in ``purchase``; 5001 and "5001" are one order.

    Raises:
        InvalidEvent: ``order_id`` is no id.
    """
    order_id = plain_scalar(order_id)
    try:
        identifier(order_id)
    except Refused as error:
        faults = [("order_id", problem) for _, problem in error.faults]
    else:
        return f"order-{hmac.digest(app_key.encode(), str(order_id).encode(), 'sha256').hex()[:32]}"
    raise InvalidEvent(faults)


def _usable(write: Any, value: Any) -> str:
    try:
        uid: str = write(value)
    except Refused:
        return ""
    return uid
