"""Revenue as the books count it: whole units of 1/10,000, exact, in 0 .. 2**53 - 1.

Redis adds integers, and Lua's numbers are exact up to 2**53. Revenue that has more decimals, is negative or does not
fit is *unknown*: it is counted as such and never a reason to refuse an event.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal

UNITS = 10_000  # of 1 in the shop's currency
LIMIT = 2**53
_SMALLEST, _LARGEST = -4, 12  # exponents of the first digit of what may fit
_SPARSE = 2.0**38  # below, floats are closer to each other than numbers of 4 decimals
_MAX_DIGITS = 64  # zeros included
_WRITTEN = re.compile(r"\d{1,13}(\.\d{1,8})?\Z", re.ASCII)


def units_of(value: object) -> int | None:
    """The units of a revenue; None when it is unknown.

    Args:
        value: int, float, Decimal, or a string of digits with at most one point, as other clients send numbers. A float
            stands for the shortest decimal number that reads as this float, as in the payload.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        units = value * UNITS if 0 <= value < LIMIT else None
    elif isinstance(value, float):
        units = _of_float(value)
    elif isinstance(value, Decimal):
        units = _of_decimal(value)
    elif isinstance(value, str) and _WRITTEN.match(value):
        units = _of_decimal(Decimal(value))
    else:
        units = None
    return units if units is not None and 0 <= units < LIMIT else None


def _of_float(value: float) -> int | None:
    if not math.isfinite(value) or not -1 < value < LIMIT:
        return None
    units = round(value * UNITS)
    # A division is rounded to the nearest float. If that is the value, a number of 4 decimals reads as the value, and
    # below the limit no other one does.
    if units / UNITS == value and value < _SPARSE:
        return units
    return _of_decimal(Decimal(repr(value)))


def _of_decimal(value: Decimal) -> int | None:
    if not value:
        return 0
    if not value.is_finite() or not _SMALLEST <= value.adjusted() <= _LARGEST:
        return None
    if len(value.as_tuple().digits) > _MAX_DIGITS:
        return None
    numerator, denominator = value.as_integer_ratio()  # exact, whatever the precision of the decimal context
    units, rest = divmod(numerator * UNITS, denominator)
    return None if rest else units
