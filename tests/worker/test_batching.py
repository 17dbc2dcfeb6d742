"""Requests of one moment in one batch: what gathers, what is split, and whose reply is whose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gevent
import pytest

from insend_relay.worker.batching import Batcher, Done


class Batches:
    """Batches that end when the test says so.

    Attributes:
        started: Their requests, in order.
    """

    def __init__(self) -> None:
        self.started: list[list[Any]] = []
        self._ends: list[Done[Any]] = []

    def start(self, requests: Sequence[Any], done: Done[Any]) -> None:
        """Note it."""
        self.started.append(list(requests))
        self._ends.append(done)

    def end(self, number: int, *replies: Any) -> None:
        """The replies have come."""
        gevent.get_hub().loop.run_callback(self._ends[number], replies)
        settle_down()


def settle_down() -> None:
    """Until there is nothing to do."""
    for _ in range(10):
        gevent.sleep(0)


def ask(batcher: Batcher[Any, Any], *requests: int) -> list[gevent.Greenlet]:
    """Greenlets that ask at the same moment; numbers above 9 have another key."""
    greenlets = [gevent.spawn(batcher.ask, request, request > 9 or None) for request in requests]
    settle_down()
    return greenlets


def test_requests_of_one_moment_are_one_batch_and_each_gets_its_own_reply() -> None:
    batches = Batches()
    asking = ask(Batcher(batches.start), 1, 2, 3)
    assert batches.started == [[1, 2, 3]]
    batches.end(0, "a", "b", "c")
    assert [greenlet.get() for greenlet in asking] == ["a", "b", "c"]


def test_what_is_asked_while_a_batch_is_in_flight_gathers_for_the_next() -> None:
    batches = Batches()
    batcher: Batcher[int, str] = Batcher(batches.start)
    ask(batcher, 1)
    ask(batcher, 2)
    ask(batcher, 3)
    assert batches.started == [[1]]
    batches.end(0, "a")
    assert batches.started == [[1], [2, 3]]


def test_a_greenlet_that_asks_again_at_once_is_in_the_next_batch() -> None:
    batches = Batches()
    batcher: Batcher[int, str] = Batcher(batches.start)
    gevent.spawn(lambda: batcher.ask(len(batcher.ask(1))))
    ask(batcher)
    ask(batcher, 2)
    batches.end(0, "four")
    assert batches.started == [[1], [2, 4]]


def test_large_batches_are_split_and_keys_kept_apart_and_the_next_waits_for_all_of_them() -> None:
    batches = Batches()
    batcher: Batcher[int, int] = Batcher(batches.start, max_size=2)
    ask(batcher, 1, 10, 2, 3)
    ask(batcher, 4)
    assert batches.started == [[1, 2], [3], [10]]
    batches.end(0, 1, 2)
    batches.end(1, 3)
    assert batches.started == [[1, 2], [3], [10]]
    batches.end(2, 10)
    assert batches.started == [[1, 2], [3], [10], [4]]


def test_an_exception_among_the_replies_is_raised_where_it_belongs() -> None:
    batches = Batches()
    first, second = ask(Batcher(batches.start), 1, 2)
    batches.end(0, ValueError("the first one's"), "b")
    with pytest.raises(ValueError, match="the first one's"):
        first.get()
    assert second.get() == "b"
