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
from typing import Any

MISMATCH = "its idempotency_key was used before, for an event with other properties: use one key for one event"
DIGEST_BYTES = 8  # enough to notice a mistake: two different events share a digest once in 2**64


def dedup_key(idempotency_key: str | None, payload: bytes) -> str:
    """The name under which Redis remembers the event, 32 hex digits; "" without an idempotency key.

    Args:
        idempotency_key: The caller's name for the event.
        payload: The data object, UTF-8 JSON; its type and order_id are the scope.
    """
    if not idempotency_key:
        return ""
    data = _read(payload)
    order_id = _properties(data).get("order_id")
    scope = [data.get("type"), order_id if order_id is None else str(order_id), idempotency_key]
    return hashlib.blake2b(json.dumps(scope).encode(), digest_size=16).hexdigest()


def content_digest(payload: bytes) -> bytes:
    """A digest of what the event says: its properties, whatever their order and whether it is 99.9 or 99.90.

    Visitor, page and visitor_info are left out: a repeated call may come from another page, or after a login.
    """
    canonical = json.dumps(_canonical(_properties(_read(payload))), sort_keys=True)
    return hashlib.blake2b(canonical.encode(), digest_size=DIGEST_BYTES).digest()


def _read(payload: bytes) -> dict[str, Any]:
    try:
        data = json.loads(payload, parse_float=Decimal, parse_int=Decimal)
    except (ValueError, ArithmeticError, RecursionError):  # no payload of our producers
        data = payload.decode(errors="replace")
    return data if isinstance(data, dict) else {"properties": {"": data}}


def _properties(data: dict[str, Any]) -> dict[str, Any]:
    properties = data.get("properties")
    return properties if isinstance(properties, dict) else {}


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _canonical(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, str):
        return f"text {value}"  # so that "1" and 1 differ
    if isinstance(value, Decimal):
        return f"number {_without_trailing_zeros(value)}"
    return value


def _without_trailing_zeros(value: Decimal) -> str:
    """The same text for equal numbers. Decimal.normalize would round to the context's precision, or overflow."""
    sign, digits, exponent = value.as_tuple()
    written = "".join(map(str, digits))
    significant = written.rstrip("0")
    if not significant or not isinstance(exponent, int):
        return "0"
    return f"{'-' * sign}{significant.lstrip('0')}e{exponent + len(written) - len(significant)}"
