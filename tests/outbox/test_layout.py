"""A Redis that a newer release has written to is left alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lanes import put

from insend_relay.outbox.errors import NewerLayout, OutboxError
from insend_relay.outbox.keys import LAYOUT
from insend_relay.outbox.store import Outbox


@pytest.fixture
def stamped(outbox: Outbox) -> Iterator[Outbox]:
    """An outbox whose layout key is taken away afterwards, since it lies outside the prefix."""
    yield outbox
    outbox.read("DEL", outbox.keys.layout)


def test_the_first_worker_writes_the_layout_down_and_the_next_find_it(stamped: Outbox) -> None:
    stamped.check_layout()
    stamped.check_layout()
    assert stamped.read("GET", stamped.keys.layout) == str(LAYOUT).encode()


def test_to_look_at_the_layout_claims_nothing(stamped: Outbox) -> None:
    assert stamped.read_layout() is None
    assert stamped.read("EXISTS", stamped.keys.layout) == 0
    stamped.check_layout()
    assert stamped.read_layout() == LAYOUT


def test_a_newer_layout_is_refused_and_left_as_it_is(stamped: Outbox) -> None:
    stamped.read("SET", stamped.keys.layout, LAYOUT + 1)
    with pytest.raises(NewerLayout, match=f"holds layout {LAYOUT + 1}, this release knows {LAYOUT}: upgrade"):
        stamped.check_layout()
    assert stamped.read("GET", stamped.keys.layout) == str(LAYOUT + 1).encode()


def test_an_older_layout_is_no_hindrance(stamped: Outbox) -> None:
    stamped.read("SET", stamped.keys.layout, LAYOUT - 1)
    stamped.check_layout()


def test_a_newer_layout_is_an_outbox_error() -> None:
    assert issubclass(NewerLayout, OutboxError)


def test_every_key_carries_the_layout_and_a_namespace_is_not_mixed_up_with_another(stamped: Outbox) -> None:
    put(stamped)
    assert all(f":{LAYOUT}}}:".encode() in key for key in stamped.read("KEYS", f"*{stamped.keys.namespace}*"))
