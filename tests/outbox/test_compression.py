"""A payload is compressed when that makes it smaller, and comes out as it went in."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insend_relay.outbox.compression import DEFLATED, DICTIONARY, PLAIN, compressed, expanded

GOLDEN = sorted((Path(__file__).parent.parent / "producers" / "golden").glob("*.json"))


def test_the_dictionary_never_changes_for_stored_records_need_it() -> None:
    """A better one is a new codec beside this one, in records of a higher version."""
    assert hashlib.sha256(DICTIONARY).hexdigest() == "1668f85f1c8b5dd720f59af9f8d23362c246455eb04f27b8058f398e6e19d8e3"


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_every_event_of_the_contract_becomes_much_smaller(path: Path) -> None:
    payload = path.read_bytes()
    codec, stored = compressed(payload)
    assert codec == DEFLATED
    assert len(stored) < len(payload) * 0.5
    assert expanded(codec, stored) == payload


@pytest.mark.parametrize("payload", [b"", b"{}", b"a" * 63, os.urandom(100), os.urandom(60_000)], ids=len)
def test_what_would_not_become_smaller_stays_as_it_is(payload: bytes) -> None:
    assert compressed(payload) == (PLAIN, payload)


@given(st.binary(max_size=2000) | st.text(max_size=2000).map(lambda text: text.encode(errors="replace") * 20))
def test_what_comes_out_is_what_went_in(payload: bytes) -> None:
    codec, stored = compressed(payload)
    assert len(stored) <= len(payload)
    assert expanded(codec, stored) == payload


def test_nothing_that_is_cut_or_changed_in_length_passes_for_a_payload() -> None:
    _, stored = compressed(GOLDEN[0].read_bytes())
    for broken in (b"", stored[:-1], stored[: len(stored) // 2], stored + b"\0"):
        with pytest.raises(ValueError, match="compressed payload"):
            expanded(DEFLATED, broken)


def test_a_codec_that_is_not_known_is_refused_by_its_number() -> None:
    with pytest.raises(ValueError, match="codec 2 is not known"):
        expanded(2, b"")
