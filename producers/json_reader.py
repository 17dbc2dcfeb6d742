"""JSON text as Python values that ``json_writer`` writes back as they were: fractions stay exact (Decimal)."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, NoReturn

_NAME_SHOWN = 60  # characters of a name in an error text


def read_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object with its fractions exact; ValueError says what is wrong."""
    try:
        value = json.loads(text, parse_float=Decimal, parse_constant=_no_number, object_pairs_hook=_no_name_twice)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at character {error.pos + 1}") from None
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ArithmeticError:  # Decimal's own limit: 1e999999999999999999999
        raise ValueError("a number has an exponent that is out of all bounds") from None
    if not isinstance(value, dict):
        raise ValueError("must be a JSON object")  # noqa: TRY004 - the text's fault, not our caller's
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _no_name_twice(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object with a name twice has no one meaning: readers of JSON keep the first, the last, or refuse it."""
    values: dict[str, Any] = {}
    for name, value in items:
        if name in values:
            raise ValueError(f"the name {json.dumps(name[:_NAME_SHOWN])} occurs twice in an object")
        values[name] = value
    return values
