"""A lease: a lane on loan to one holder, and the fencing token by which the holder is known.

A token is unique for ever: 32 random characters of the process, then the number of its claim (8 bytes, big-endian). A
counter in Redis would not do: a failover or a restored file sets it back, and then two holders have the same number.

``lease`` holds for each leased lane: token (40 bytes), id of the head (16), and the holder's name, padded to 9 bytes by
``lua/shared/lane.lua``.
"""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from insend_relay.outbox.process import PerProcess

PROCESS_BYTES = 32  # of a token: what all tokens of a process begin with
TOKEN_BYTES = 40
_ID_END = TOKEN_BYTES + 16


@dataclass(frozen=True, slots=True)
class _Process:
    """One process, as the tokens of its claims name it."""

    name: bytes = field(default_factory=lambda: secrets.token_hex(16).encode())
    claims: itertools.count[int] = field(default_factory=lambda: itertools.count(1))


def _new_process(_: Sequence[_Process]) -> _Process:
    return _Process()


_process = PerProcess(_new_process, scope=os.getpid)


def new_token() -> bytes:
    """A fencing token that no other claim has ever had, in this process or in any other."""
    process = _process.get()
    return process.name + next(process.claims).to_bytes(8)


def process_name() -> bytes:
    """The first 32 bytes of each token of this process."""
    return _process.get().name


def head_of(lease: bytes) -> bytes:
    """The id of the event that a stored lease is for."""
    return lease[TOKEN_BYTES:_ID_END]


def holder_of(lease: bytes) -> str:
    """The holder of a stored lease, as operators read it."""
    return shown(lease[_ID_END:])


def shown(holder: bytes) -> str:
    """A holder's name without the padding."""
    return holder.decode(errors="replace").rstrip()
