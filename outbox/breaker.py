"""The numbers by which the circuit breaker of an app judges; ``lua/shared/trip.lua`` applies them."""

from __future__ import annotations

import struct
from dataclasses import astuple, dataclass

_FORMAT = struct.Struct(">6Q")


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """When the circuit breaker opens and for how long; ``Settings`` says more of each.

    Attributes:
        unreachable: Unreachable answers in a row that open it.
        lanes: Lanes that fail with no 200 between that open it.
        first_ms: The first pause.
        max_ms: The longest pause.
        calm_ms: For how long after a 200 it takes more failures to open it.
        rejected_ms: After how long a pause that rejections began counts attempts again.
    """

    unreachable: int = 3
    lanes: int = 5
    first_ms: int = 1_000
    max_ms: int = 60_000
    calm_ms: int = 60_000
    rejected_ms: int = 900_000

    def pack(self) -> bytes:
        """As ``fail.lua`` reads them: 8 bytes each, big-endian."""
        return _FORMAT.pack(*astuple(self))
