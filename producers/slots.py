"""The names under which Redis remembers what each of this process's concurrent calls has brought in last.

A call takes a slot and gives it back when it knows how it ended. When it does not know, the slot is used no more: Redis
can then be asked, whenever that is, whether the event came in, and be told to refuse it should it still come
(``lua/shared/entrance.lua``). So an append happens exactly once, although no answer may come.
"""

from __future__ import annotations

import itertools
import os
import secrets
import weakref


class Slots:
    """The slots of one InSend, for any number of threads; a forked child has slots of its own."""

    def __init__(self) -> None:
        self.begin_anew()
        _all.add(self)

    def take(self) -> str:
        """A slot that no other call has; as many come to be as there are calls at once."""
        try:
            return self._free.pop()
        except IndexError:
            return f"{self._producer}:{next(self._numbers)}"

    def give_back(self, slot: str) -> None:
        """The call that had it knows how it ended."""
        if slot.startswith(self._producer):  # else it was taken before a fork, and the parent has it too
            self._free.append(slot)

    def begin_anew(self) -> None:
        """Slots that nobody has had."""
        self._producer = secrets.token_hex(6)
        self._numbers = itertools.count()
        self._free: list[str] = []


_all: weakref.WeakSet[Slots] = weakref.WeakSet()


def _after_fork() -> None:
    for slots in list(_all):
        slots.begin_anew()


os.register_at_fork(after_in_child=_after_fork)
