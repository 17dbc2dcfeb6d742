"""What is known of a head that has been tried is read as it was written, and only for that head."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insend_relay.outbox.trying import Tried

ID = bytes(range(16))
counts = st.integers(0, 0xFFFF)
times = st.integers(0, 2**63)


@given(st.builds(Tried, st.just(ID), counts, counts, times, times, st.text(st.characters(codec="utf-8"), max_size=50)))
def test_what_was_written_is_read(tried: Tried) -> None:
    assert Tried.unpack(tried.pack(), ID) == tried


def test_what_is_known_of_another_event_counts_as_nothing() -> None:
    assert Tried.unpack(Tried(bytes(16), 3, 1, 4, 5, "answered 500").pack(), ID) == Tried(ID)


@pytest.mark.parametrize("data", [b"", ID, Tried(ID, 3).pack()[:-1]])
def test_what_is_cut_short_counts_as_nothing(data: bytes) -> None:
    assert Tried.unpack(data, ID) == Tried(ID)


def test_counts_stop_at_the_most_that_fits() -> None:
    assert Tried.unpack(Tried(ID, 70_000, 70_000).pack(), ID) == Tried(ID, 0xFFFF, 0xFFFF)
