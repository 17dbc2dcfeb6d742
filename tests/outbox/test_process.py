"""What a forked child must not share with its parent."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence

import pytest

from insend_relay.outbox.process import PerProcess, renew_in_children

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")


def in_a_child(work: Callable[[], bytes]) -> bytes:
    """What some work returns in a forked child."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, work())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        answer = said.read()
    os.waitpid(pid, 0)
    return answer


class Renewed:
    """Counts how often it was renewed."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.said: list[bytes] = []

    def renew(self) -> None:
        """In the child."""
        self.said.append(self.name)


def test_what_must_be_renewed_is_renewed_in_the_child_and_not_in_the_parent() -> None:
    state = Renewed(b"once")
    renew_in_children(state.renew)
    assert in_a_child(lambda: b",".join(state.said)) == b"once"
    assert state.said == []


def test_a_renewal_does_not_keep_its_object_alive() -> None:
    state = Renewed(b"dropped")
    said = state.said
    renew_in_children(state.renew)
    del state
    gc.collect()
    assert in_a_child(lambda: b",".join(said)) == b""


def test_state_is_made_at_its_first_use_in_each_process_from_the_states_of_its_parents() -> None:
    made: list[int] = []

    def make(earlier: Sequence[int]) -> int:
        made.append(len(earlier))
        return os.getpid()

    states = PerProcess(make, scope=os.getpid)
    assert states.peek() is None
    assert states.get() == states.get() == os.getpid()
    assert in_a_child(lambda: b"%d %r" % (states.get() != os.getppid(), made)) == b"1 [0, 1]"
    assert made == [0]
