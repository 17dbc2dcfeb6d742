"""What a call returns."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Literal

Where = Literal["redis", "spool", "duplicate", "opted_out", "no_visitor", "disabled", "invalid"]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of an event.

    Attributes:
        id: The event's id, a UUIDv7; the first event's when this one was a duplicate of it.
        where: ``redis``: kept, and delivered once the tracker takes it. ``duplicate``: an event with this
            idempotency key was kept before. ``invalid``: it broke the rules and stands in the dead letters
            (``INSEND_INVALID=bury``). Not kept, and not meant to be: ``no_visitor`` (neither uid was known),
            ``opted_out`` (the visitor does not want to be tracked), ``disabled`` (``INSEND_ENABLED=0``).
            ``spool``: kept on this machine's disk until Redis takes it.
        confirmed: Of a kept event: False when ``INSEND_DURABILITY`` wants it to be safer than Redis's answer makes it,
            and nobody said in time that it is. It is kept all the same: what a power cut or a failover in the next
            moments does to it is all that is open.
    """

    id: uuid.UUID
    where: Where
    confirmed: bool = True
