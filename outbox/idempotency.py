"""Idempotency keys: which events count as the same one.

A caller's key is scoped by the app, the event type and, where the event names one, the order. So one key for an order's
purchase and its order_update keeps both, and two orders that got the same key by mistake are both kept. The visitor is
not part of the scope: an order that is sent as a guest and then as a customer is one order.

Only hashes are stored: a key may be long or personal.
"""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from typing import Any, NamedTuple

MISMATCH = "its idempotency_key was used before, for an event with other properties: use one key for one event"
DIGEST_BYTES = 8  # enough to notice a mistake: two different events share a digest once in 2**64


class Identity(NamedTuple):
    """What tells whether two events are the same one.

    Attributes:
        key: The name under which Redis remembers the event, 32 hex digits; "" without an idempotency key.
        digest: A digest of what the event says, ``DIGEST_BYTES`` long; empty without an idempotency key.
    """

    key: str = ""
    digest: bytes = b""


NO_IDENTITY = Identity()


def identity(idempotency_key: str | None, payload: bytes) -> Identity:
    """The identity of an event.

    Args:
        idempotency_key: The caller's name for the event.
        payload: The data object, UTF-8 JSON; its type and order_id are the scope.
    """
    if not idempotency_key:
        return NO_IDENTITY
    data = _read(payload)
    properties = _properties(data)
    scope = json.dumps([data.get("type"), _order_id(properties), idempotency_key])
    return Identity(hashlib.blake2b(scope.encode(), digest_size=16).hexdigest(), _digest(properties))


def content_digest(payload: bytes) -> bytes:
    """A digest of the event's properties, whatever their order and whether a number is 99.9 or 99.90.

    Visitor, page and visitor_info are left out: a repeated call may come from another page, or after a login.
    """
    return _digest(_properties(_read(payload)))


def _read(payload: bytes) -> dict[str, Any]:
    try:
        data = json.loads(payload, parse_float=_number, parse_int=_number)
    except (ValueError, ArithmeticError, RecursionError):  # no payload of our producers
        data = payload.decode(errors="replace")
    return data if isinstance(data, dict) else {"properties": {"": data}}


def _properties(data: dict[str, Any]) -> dict[str, Any]:
    properties = data.get("properties")
    return properties if isinstance(properties, dict) else {}


def _order_id(properties: dict[str, Any]) -> str | None:
    order_id = properties.get("order_id")
    return None if order_id is None else str(order_id)


def _digest(properties: dict[str, Any]) -> bytes:
    return hashlib.blake2b(json.dumps(properties, sort_keys=True).encode(), digest_size=DIGEST_BYTES).digest()


def _number(written: str) -> str:
    """The same text for equal numbers; it begins with a half surrogate pair, which no string of an event has."""
    if written.isdigit() and written[-1] != "0":
        return f"\ud800{written}e0"
    # Not Decimal.normalize, which rounds to the context's precision, or overflows.
    sign, digits, exponent = Decimal(written).as_tuple()
    text = "".join(map(str, digits))
    significant = text.rstrip("0")
    if not significant or not isinstance(exponent, int):
        return "\ud8000"
    return f"\ud800{'-' * sign}{significant.lstrip('0')}e{exponent + len(text) - len(significant)}"
