"""The facts of an event that stand in the header of its record, for scripts and operators that do not read payloads."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from insend_relay.outbox.event_type import NAMES, code_of
from insend_relay.outbox.masked import masked
from insend_relay.outbox.revenue import units_of

Kind = Literal["event", "webhook"]
ORDER_BYTES, TRACE_BYTES = 8, 25
_OF_AN_ORDER = frozenset({"purchase", "order_update"})


@masked("kind", "type_code", "revenue_unknown")
class Facts(NamedTuple):
    """What the header says of an event.

    Attributes:
        kind: "event" goes to the tracker as a form; "webhook" is a body that goes to another path as it is.
        type_code: See ``event_type``.
        revenue: Of a purchase or an order_update, in ``revenue.UNITS``; None without one, and when it is unknown.
        revenue_unknown: Whether it names a revenue that cannot be counted.
        order: Of a purchase or an order_update, ``order_hash`` of its order id; empty without one.
        trace: W3C trace context: trace-id (16 bytes), parent-id (8), flags (1); empty without one.
    """

    kind: Kind = "event"
    type_code: int = 0
    revenue: int | None = None
    revenue_unknown: bool = False
    order: bytes = b""
    trace: bytes = b""


_OF_TYPE = {name: Facts(type_code=code) for code, name in enumerate(NAMES)}


def facts_of(type: object, properties: Mapping[Any, Any]) -> Facts:
    """The facts of an event.

    Args:
        type: Its type, whatever was given.
        properties: Its properties: a revenue may be any number, an order id a string, a whole number or a UUID.
    """
    if not isinstance(type, str) or type not in _OF_AN_ORDER:
        return (_OF_TYPE.get(type) if isinstance(type, str) else None) or Facts(type_code=code_of(type))
    revenue, order_id = properties.get("revenue"), properties.get("order_id")
    units = None if revenue is None else units_of(revenue)
    return Facts("event", code_of(type), units, revenue is not None and units is None, _order(order_id))


def facts_in(payload: bytes) -> Facts:
    """The facts of an event, read from its data object; a payload that is none has the type "?"."""
    try:
        data = json.loads(payload, parse_float=_number, parse_int=_number)
    except (ValueError, RecursionError):
        return Facts()
    if not isinstance(data, dict):
        return Facts()
    properties = data.get("properties")
    return facts_of(data.get("type"), properties if isinstance(properties, dict) else {})


def order_hash(order_id: str) -> bytes:
    """The first 8 bytes of the SHA-1 of an order id as it is written in the payload."""
    return hashlib.sha1(order_id.encode(errors="surrogatepass"), usedforsecurity=False).digest()[:ORDER_BYTES]


def _number(written: str) -> Decimal:
    try:
        return Decimal(written)
    except ArithmeticError:  # an exponent of 20 digits
        return Decimal("NaN")


def _order(order_id: object) -> bytes:
    if isinstance(order_id, bool) or not isinstance(order_id, str | int | Decimal | uuid.UUID):
        return b""
    written = str(order_id)
    return order_hash(written) if written else b""
