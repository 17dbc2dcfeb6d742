"""Any stored number can be shown as a time: a date where there is one, and no error where there is none."""

from __future__ import annotations

import pytest

from insend_relay.console.terminal import ago, moment
from insend_relay.operations.iso import iso, utc, written

FIRST_MS, LAST_MS = -62_135_596_800_000, 253_402_300_799_000  # of the years that a calendar has


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (FIRST_MS, "0001-01-01T00:00:00.000Z"),
        (LAST_MS, "9999-12-31T23:59:59.000Z"),
    ],
)
def test_a_date_is_written_as_json_has_it(ms: int, text: str) -> None:
    assert iso(ms) == text
    assert moment(ms).endswith(" UTC")
    assert ago(ms, LAST_MS).endswith(" ago")


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("size", [300_000_000_000_000, 2**63, 2**64 - 1, 10**400], ids=lambda size: str(len(str(size))))
def test_a_number_that_is_no_date_is_null_in_json_and_itself_for_people(sign: int, size: int) -> None:
    ms = sign * size
    assert (utc(ms), iso(ms)) == (None, None)
    assert written(ms) == moment(ms) == ago(ms, 0) == f"no date ({ms} ms)"
