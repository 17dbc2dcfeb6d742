"""Revenue in units of 1/10,000: exact, or unknown."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insend_relay.outbox.revenue import LIMIT, units_of


@pytest.mark.parametrize(
    ("value", "units"),
    [
        (0, 0),
        (0.0, 0),
        (-0.0, 0),
        (Decimal("-0.00"), 0),
        (1.10, 11_000),
        (Decimal("1.10"), 11_000),
        ("1.10", 11_000),
        (99.99, 999_900),
        (0.0001, 1),
        (Decimal("1.10000000"), 11_000),
        (Decimal("1E+3"), 10_000_000),
        (900_719_925_474, 9_007_199_254_740_000),
        (Decimal("900719925474.0991"), LIMIT - 1),
    ],
)
def test_what_fits_is_counted_exactly(value: object, units: int) -> None:
    assert units_of(value) == units


@pytest.mark.parametrize(
    "value",
    [
        -1,
        -0.01,
        Decimal("-0.0001"),
        0.00001,
        0.1 + 0.2,
        Decimal("1.00001"),
        Decimal("900719925474.0992"),
        900_719_925_475,
        1e30,
        10**600,
        Decimal("1E+999999"),
        Decimal("1E-999999"),
        float("nan"),
        float("inf"),
        float("-inf"),
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        "12,50",
        "NaN",
        "1e3",
        "\u0661",
        "-1",
        "",
        True,
        None,
        [],
        b"1",
    ],
)
def test_what_does_not_fit_is_unknown(value: object) -> None:
    assert units_of(value) is None


@given(st.integers(0, LIMIT - 1))
def test_every_number_of_units_is_read_from_a_decimal_and_a_text(units: int) -> None:
    value = Decimal(units).scaleb(-4)
    assert units_of(value) == units
    assert units_of(format(value, "f")) == units


@given(st.floats(0, 1e12) | st.integers(0, 10**10).map(lambda units: units / 10_000))
def test_a_float_counts_as_the_decimal_number_that_goes_over_the_wire(value: float) -> None:
    assert units_of(value) == units_of(Decimal(repr(value)))


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-10, max_value=10**13))
def test_the_precision_of_the_callers_decimal_context_does_not_matter(value: Decimal) -> None:
    exact = Fraction(value) * 10_000
    fits = exact.denominator == 1 and 0 <= exact < LIMIT
    with localcontext() as context:
        context.prec = 2
        assert units_of(value) == (int(exact) if fits else None)
