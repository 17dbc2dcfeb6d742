"""Events that are too large: the optional fields that make one so, and the event without them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from insend_relay.producers.json_writer import MAX_BYTES

DROPPABLE = ("product_image_url", "product_url", "product_name")  # in this order: what a mail can do without, first
MAX_ITEMS = MAX_BYTES // len('{"product_id":"1","qnt":1,"price":1},')  # no more of them fit, however short
_WITH_ITEMS = frozenset(("update_cart", "purchase", "order_update"))
_OF_ONE_PRODUCT = frozenset(("add_to_cart", "remove_from_cart", "view_product"))


class Dropped(NamedTuple):
    """A field that an event is sent without.

    Attributes:
        field: Its name.
        times: From how many items.
    """

    field: str
    times: int


def has_too_many_items(type: object, properties: Any) -> bool:
    """Whether an event has more items than fit, whatever is left out of them."""
    items = properties.get("items") if type in _WITH_ITEMS and isinstance(properties, Mapping) else None
    return isinstance(items, (list, tuple)) and len(items) > MAX_ITEMS


def without(type: object, properties: Any, field: str) -> tuple[Any, int]:
    """An event's properties without an optional field, and how often it was there.

    Args:
        type: The event type. Only the fields that it knows are dropped: a custom event's are the shop's own.
        properties: Plain values; not changed.
        field: One of ``DROPPABLE``.
    """
    if not isinstance(properties, Mapping):
        return properties, 0
    if type in _OF_ONE_PRODUCT:
        return _without(properties, field)
    items = properties.get("items") if type in _WITH_ITEMS else None
    if not isinstance(items, (list, tuple)):
        return properties, 0
    pairs = [_without(item, field) for item in items]
    return {**properties, "items": [item for item, _ in pairs]}, sum(count for _, count in pairs)


def _without(item: Any, field: str) -> tuple[Any, int]:
    if not isinstance(item, Mapping) or item.get(field) is None:
        return item, 0
    return {name: value for name, value in item.items() if name != field}, 1


def advice(dropped: list[Dropped], size: int | None, *, fits: bool) -> str:
    """What a fault says about the fields that can be left out.

    Args:
        dropped: The fields; empty when the event has none of them.
        size: The event's size without them, bytes; None when it is too large to be measured.
        fits: Whether that is within the limit.
    """
    if not dropped:
        return ""
    *most, last = (drop.field for drop in dropped)
    fields = f"{', '.join(most)} and {last}" if most else last
    if fits:
        return f"; without {fields} it is {size:,} and fits: leave that out, or set INSEND_OVERSIZE=trim"
    still = "too large" if size is None else f"{size:,}"
    return f"; it is {still} even without {fields}: send fewer items"
