"""The names under which Redis remembers what each of this process's concurrent calls has brought in last.

A call takes a slot and gives it back when it knows how it ended. When it does not know, the slot is used no more: Redis
can then be asked, whenever that is, whether the event came in, and be told to refuse it should it still come
(``lua/shared/entrance.lua``). So an append happens exactly once, although no answer may come.
"""

from __future__ import annotations

import itertools
import os
import secrets


class Slots:
    """The slots of one InSend, for any number of threads; a forked child has slots of its own."""

    def __init__(self) -> None:
        self._start_afresh()

    def take(self) -> str:
        """A slot that no other call has; as many come to be as there are calls at once."""
        if os.getpid() != self._pid:
            self._start_afresh()
        try:
            return self._free.pop()
        except IndexError:
            return f"{self._producer}:{next(self._numbers)}"

    def give_back(self, slot: str) -> None:
        """The call that had it knows how it ended."""
        if slot.startswith(self._producer):  # else it was taken before a fork, and the parent has it too
            self._free.append(slot)

    def _start_afresh(self) -> None:
        self._pid = os.getpid()
        self._producer = secrets.token_hex(6)
        self._numbers = itertools.count()
        self._free: list[str] = []
