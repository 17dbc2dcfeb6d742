"""The names under which Redis remembers what each of this process's concurrent calls has brought in last.

A call takes a slot and gives it back when it knows how it ended. When it does not know, the slot is used no more: Redis
can then be asked, whenever that is, whether the event came in, and be told to refuse it should it still come
(``lua/shared/entrance.lua``). So an append happens exactly once, although no answer may come.
"""

from __future__ import annotations

import itertools
import os
import secrets

from insend_relay.outbox.process import PerProcess


class Slots:
    """The slots of one process, for any number of threads. Taking one may be re-entered: each is taken once."""

    def __init__(self) -> None:
        self._producer = secrets.token_hex(6)
        self._numbers = itertools.count()
        self._free: list[str] = []

    def take(self) -> str:
        """A slot that no other call has; there are as many as there were calls at once."""
        try:
            return self._free.pop()
        except IndexError:
            return f"{self._producer}:{next(self._numbers)}"

    def give_back(self, slot: str) -> None:
        """The call that had it knows how it ended."""
        self._free.append(slot)


def slots_of_processes() -> PerProcess[Slots]:
    """The slots of one InSend: a forked child has slots of its own."""
    return PerProcess(lambda _: Slots(), scope=os.getpid)
