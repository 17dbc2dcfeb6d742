"""The tracker's event types and their properties, as CONTRACT.md lists them: the seed's ten, and order_update.

One table says all: what a type must have, what it may have, and what each property may hold. ``STRICT`` refuses any
other property, as it is most likely a misspelling; ``LENIENT`` (``strict=False``) sends it as it is. What is known is
checked in either.
"""

from __future__ import annotations

import re
import uuid
from typing import Any

from insend_relay.producers.json_writer import anything, listed, not_a, number, refused, text
from insend_relay.producers.shape import Shape

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")  # of an event type that only the tracker knows
_EVENT_KEY = re.compile(r"[A-Za-z0-9_]+\Z")
_PROPERTIES, _ITEMS, _ITEM = 2, 3, 4  # how deep each lies in the data object


def filled(value: Any) -> str:
    """A string that says something."""
    written = text(value)
    if not value:
        raise refused("is empty")
    return written


def email_address(value: Any) -> str:
    """An e-mail address without the spaces around it."""
    return filled(value.strip() if type(value) is str else value)


def identifier(value: Any) -> str:
    """An id of the shop's: a string or a whole number, and always a string on the wire."""
    kind = type(value)
    if kind is str:
        return filled(value)
    if kind is int:
        return f'"{number(value)}"'
    if kind is uuid.UUID:  # here, too: in a shop whose keys are UUIDs every event has some
        return f'"{value}"'
    raise not_a("a string or a whole number", value)


def as_given(value: Any) -> str:
    """A string or a number that goes out as it is."""
    return filled(value) if type(value) is str else number(value)


def event_key(value: Any) -> str:
    """The key of a custom event, as it is set up in the account."""
    if type(value) is not str:
        raise not_a("a string", value)
    if not _EVENT_KEY.match(value):
        raise refused("must be letters a-z, digits and _ only, as set up in the account")
    return text(value)


def _event_types(*, strict: bool) -> dict[str, Shape]:
    further = None if strict else anything
    item = Shape(
        required={"product_id": identifier, "qnt": number, "price": number},
        optional={"product_name": text, "product_url": text, "product_image_url": text},
        further=further,
        level=_ITEM,
    )

    def items(value: Any) -> str:
        return listed(value, item.write, _ITEMS)

    def event(required: dict[str, Any], optional: dict[str, Any]) -> Shape:
        return Shape(required=required, optional=optional, further=further, level=_PROPERTIES)

    return {
        "add_to_cart": event(
            {"product_id": identifier, "qnt": number, "price": number},
            {"product_name": text, "product_url": text, "product_image_url": text},
        ),
        "remove_from_cart": event(
            {"product_id": identifier, "qnt": number},
            {"product_name": text, "product_url": text},
        ),
        "update_cart": event({"items": items}, {}),
        "view_product": event(
            {"product_id": identifier},
            {
                "product_name": text,
                "category_id": identifier,
                "product_url": text,
                "price": number,
                "product_image_url": text,
            },
        ),
        "purchase": event({"order_id": identifier, "revenue": number}, {"items": items, "state": text}),
        "order_update": event({"order_id": identifier, "state": filled}, {"revenue": number, "items": items}),
        "custom": Shape(required={"key": event_key}, further=anything, level=_PROPERTIES),
        "file": event({"file_url": filled}, {"file_title": text}),
        "link": event({}, {"key_page_id": as_given}),
        "mailto": event({"email": email_address}, {}),
        "update_info": event({}, {}),
    }


# These say that their visitor is on a page. Every other type may be sent about a visitor who is elsewhere.
PAGE_TYPES = frozenset({"link", "view_product", "file", "mailto"})
STRICT = _event_types(strict=True)
LENIENT = _event_types(strict=False)
ANY = Shape(further=anything, level=_PROPERTIES)  # the properties of an event type that we do not know
