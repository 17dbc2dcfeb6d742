"""The code of each event type in the header of a record, so that scripts can count by type without reading payloads.

The codes are stored: a code never gets another meaning. A new type gets the next free code.
"""

from __future__ import annotations

UNREADABLE = 0
OTHER = 255  # every type that is not in the table
NAMES = (
    "?",  # no type can be read
    "add_to_cart",
    "remove_from_cart",
    "update_cart",
    "view_product",
    "purchase",
    "custom",
    "file",
    "link",
    "mailto",
    "update_info",
    "order_update",
)
_CODES = {name: code for code, name in enumerate(NAMES)}


def code_of(name: object) -> int:
    """The code of an event type as its event has it."""
    return _CODES.get(name, OTHER) if isinstance(name, str) and name else UNREADABLE


def name_of(code: int) -> str:
    """The type of a code; "other" for a type that is not in the table."""
    return NAMES[code] if 0 <= code < len(NAMES) else "other"
