"""Reads the event's ``data`` as strict JSON: what Python's reader lets through, a tracker need not.

Refused: NaN and Infinity, numbers beyond a double, a key that stands twice, halves of surrogate pairs, nesting that
could not be shown again. Kept visible: whether a number was written in exponent form, which CONTRACT forbids for
prices. Errors never quote a value.
"""

from __future__ import annotations

import json
import re
from typing import Any

_MOST_LEVELS = 100  # CONTRACT names no limit; this one keeps us clear of Python's recursion limit when we show it again
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class ExponentForm(float):
    """A number that was written like 1.5e3."""

    __slots__ = ()


def read_object(encoded: str) -> dict[str, Any]:
    """Decode a JSON object; ValueError says what is wrong with it."""
    try:
        data = _STRICT.decode(encoded)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(data, dict):
        raise ValueError("must be a JSON object")  # noqa: TRY004 - the request's fault, not our caller's
    if _deeper_than(data, _MOST_LEVELS):
        raise ValueError("nested too deeply")
    if _SURROGATE.search(encoded):
        try:
            json.dumps(data, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("not Unicode: half of a surrogate pair") from None
    return data


def _float(written: str) -> float:
    number = ExponentForm(written) if "e" in written.lower() else float(written)
    if abs(number) == float("inf"):
        raise ValueError("not JSON: a number too large to hold")
    return number


def _int(written: str) -> int:
    try:
        return int(written)
    except ValueError:  # Python converts 4,300 digits at most
        raise ValueError("not JSON: a number too large to hold") from None


def _constant(_: str) -> float:
    raise ValueError("not JSON: NaN and Infinity are no JSON numbers")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) < len(pairs):
        raise ValueError("not JSON: a key stands twice in one object")
    return keys


_STRICT = json.JSONDecoder(parse_float=_float, parse_int=_int, parse_constant=_constant, object_pairs_hook=_object)


def _deeper_than(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return False
    return levels == 0 or any(_deeper_than(child, levels - 1) for child in value)
