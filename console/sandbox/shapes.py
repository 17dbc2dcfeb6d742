"""The shapes that CONTRACT.md gives to values: properties by event type, visitor_info, addresses, numbers.

Each check is a generator of faults, ``(path, problem)``; no problem quotes a value (see ``contract``).
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from insend_relay.console.sandbox.json_text import ExponentForm

Fault = tuple[str, str]
Check = Callable[[str, Any], Iterator[Fault]]


@dataclass(frozen=True, slots=True)
class Shape:
    """An object's keys.

    Attributes:
        required: The keys that must be there, each with the check of its value.
        optional: The keys that may be there.
        further: Whether keys beyond these are allowed (``custom`` only).
    """

    required: Mapping[str, Check] = field(default_factory=dict)
    optional: Mapping[str, Check] = field(default_factory=dict)
    further: bool = False

    def __call__(self, path: str, value: Any) -> Iterator[Fault]:
        """Check an object against this shape."""
        if not isinstance(value, dict):
            yield path, "must be an object"
            return
        yield from missing(path, self.required, value)
        known = {**self.required, **self.optional}
        for key, inner in value.items():
            if key in known:
                yield from known[key](f"{path}.{key}", inner)
            elif not self.further:
                yield f"{path}.{key}", "not a property of this event type"


def missing(path: str, required: Iterable[str], value: Mapping[str, Any]) -> Iterator[Fault]:
    """A fault for each required key that is not there."""
    return ((f"{path}.{key}", "missing") for key in required if key not in value)


def text(path: str, value: Any) -> Iterator[Fault]:
    """Any string."""
    if not isinstance(value, str):
        yield path, "must be a string"


def filled(path: str, value: Any) -> Iterator[Fault]:
    """A string that says something; ids go out as strings even when they are numbers in the shop."""
    if not isinstance(value, str) or not value:
        yield path, "must be a string that is not empty"


def number(path: str, value: Any) -> Iterator[Fault]:
    """A JSON number, written out in full."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        yield path, "must be a number"
    elif isinstance(value, ExponentForm):
        yield path, "must not be written in exponent form"


def anything_plain(path: str, value: Any) -> Iterator[Fault]:
    """A string or a number: what goes out as it was given."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        yield path, "must be a string or a number"


def custom_key(path: str, value: Any) -> Iterator[Fault]:
    """The key of a custom event, as it is set up in the account."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_]+", value):
        yield path, "must be letters, digits and _ only"


def items(path: str, value: Any) -> Iterator[Fault]:
    """The products of a cart or an order; an empty list clears the cart."""
    if not isinstance(value, list):
        yield path, "must be a list"
        return
    for index, item in enumerate(value):
        yield from ITEM(f"{path}[{index}]", item)


def domain(path: str, value: Any) -> Iterator[Fault]:
    """The account's domain: lower case, an IDN in its own letters."""
    if not isinstance(value, str) or not re.fullmatch(r"[^\s/:@?#]+", value):
        yield path, "must be a domain such as shop.example.com"
    elif value != value.lower():
        yield path, "must be in lower case"
    elif any(label.startswith("xn--") for label in value.split(".")):
        yield path, "an international domain goes out in its own letters, not as xn--"


def host(path: str, value: Any) -> Iterator[Fault]:
    """The site's host, with its port if it has one."""
    if not isinstance(value, str) or not re.fullmatch(r"[^\s/@?#]+", value):
        yield path, "must be a host, with port, such as shop.example.com:8080"


def address(path: str, value: Any) -> Iterator[Fault]:
    """A full address."""
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
        full = parts is not None and parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        full = False
    if not full:
        yield path, "must be a full address such as https://shop.example.com/cart"


def any_object(path: str, value: Any) -> Iterator[Fault]:
    """An object whose keys are free."""
    if not isinstance(value, dict):
        yield path, "must be an object"


def visitor_info(path: str, value: Any) -> Iterator[Fault]:
    """What is known about the visitor; an empty string is allowed here, it erases the field."""
    if not isinstance(value, dict):
        yield path, "must be an object"
        return
    for key, known in value.items():
        if known is None:
            yield f"{path}.{key}", "must be left out, not null"
        elif isinstance(known, dict | list):
            yield f"{path}.{key}", "must be a string, a number or a boolean"
        elif key in _TEXT_INFO:
            yield from text(f"{path}.{key}", known)
        elif key == "date_of_birth" and known != "" and not _is_date(known):
            yield f"{path}.{key}", "must be a date, YYYY-MM-DD"
        elif key == "gender" and known not in {"", "male", "female"}:
            yield f"{path}.{key}", "must be male or female"


def _is_date(value: Any) -> bool:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        return False
    try:
        dt.date.fromisoformat(value)
    except ValueError:
        return False
    return True


_TEXT_INFO = frozenset({"first_name", "last_name", "full_name", "email", "phone", "language"})
_NAMES = {"product_name": text, "product_url": text}
ITEM = Shape({"product_id": filled, "qnt": number, "price": number}, {**_NAMES, "product_image_url": text})

PROPERTIES: Mapping[str, Shape] = {
    "add_to_cart": ITEM,
    "remove_from_cart": Shape({"product_id": filled, "qnt": number}, _NAMES),
    "update_cart": Shape({"items": items}),
    "view_product": Shape(
        {"product_id": filled}, {**_NAMES, "category_id": text, "price": number, "product_image_url": text}
    ),
    "purchase": Shape({"order_id": filled, "revenue": number}, {"items": items, "state": text}),
    "order_update": Shape({"order_id": filled, "state": filled}, {"revenue": number, "items": items}),
    "custom": Shape({"key": custom_key}, further=True),
    "file": Shape({"file_url": filled}, {"file_title": text}),
    "link": Shape({}, {"key_page_id": anything_plain}),
    "mailto": Shape({"email": filled}),
    "update_info": Shape(),
}
