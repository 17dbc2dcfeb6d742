"""The order of an app's dead letters: their index in Redis, read in batches while letters come and go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from insend_relay.outbox.replies import pairs
from insend_relay.outbox.store import Outbox


class Position(NamedTuple):
    """A place in the order of an app's letters, which is that of its index in Redis.

    Attributes:
        seq: The score: the place in the order of acceptance. From 2^53 on a score has not all digits of it, and damaged
            records may have the same.
        id: The letter's id, which orders those of the same score.
    """

    seq: int
    id: bytes


START = Position(0, b"")  # before every letter


# Members of a sorted set behind a score and a member, which need not be there any more, with their scores. Many may
# have that score, so the place is searched for by halving. Redis orders by bytes; Lua compares strings by the locale.
_BEHIND = """
local function is_behind(member, other)
  for i = 1, math.min(#member, #other) do
    local byte, other_byte = string.byte(member, i), string.byte(other, i)
    if byte ~= other_byte then
      return byte > other_byte
    end
  end
  return #member > #other
end

local key, score, member, count = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local low = redis.call('ZCOUNT', key, '-inf', '(' .. score)
local high = low + redis.call('ZCOUNT', key, score, score)
while low < high do
  local middle = math.floor((low + high) / 2)
  if is_behind(redis.call('ZRANGE', key, middle, middle)[1], member) then
    high = middle
  else
    low = middle + 1
  end
end
return redis.call('ZRANGE', key, low, low + count - 1, 'WITHSCORES')
"""


def index_of(outbox: Outbox, app: str, behind: Position, at_once: int) -> Iterator[tuple[bytes, int]]:
    """Ids and seqs of an app's letters in the order of acceptance; each batch is read when it is wanted.

    Args:
        outbox: Whose.
        app: The application's key, as ``DeadLetters.apps`` gives it.
        behind: Only those behind this place.
        at_once: How many are read at once.
    """
    key = outbox.keys.dead_index(app).encode(errors="surrogateescape")
    while True:
        batch = outbox.read("EVAL", _BEHIND, 1, key, behind.seq, behind.id, at_once)
        found = [(name, int(float(seq))) for name, seq in pairs(batch)]
        if not found:
            return
        yield from found
        name, seq = found[-1]
        behind = Position(seq, name)
