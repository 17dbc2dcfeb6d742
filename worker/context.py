"""What every lane of a process is worked on with."""

from __future__ import annotations

from dataclasses import dataclass, field

from insend_relay.outbox.breaker import BreakerLimits
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.worker.limiter import Limiter
from insend_relay.worker.pauses import Pauses
from insend_relay.worker.policy import Policy
from insend_relay.worker.quarantine import Quarantine
from insend_relay.worker.settling import Settling
from insend_relay.worker.stop import Stop
from insend_relay.worker.time_slice import TimeSlice
from insend_relay.worker.tracker import Tracker


@dataclass(frozen=True, slots=True)
class Context:
    """Plain objects, made once in the greenlets' thread.

    Attributes:
        outbox: Where events come from; its commands go through the pipeline.
        settling: How delivered events leave the outbox.
        tracker: Where events go.
        limiter: How many POSTs may be in flight.
        policy: Whether and when to try again.
        limits: The circuit breaker's numbers.
        settings: All others.
        stop: The process's stop request.
        time_slice: Whether a further event may begin.
        quarantine: While this process has its turn there, nothing begins beside its event.
        pauses: Which apps are paused, as far as this process knows.
    """

    outbox: Outbox
    settling: Settling
    tracker: Tracker
    limiter: Limiter
    policy: Policy
    limits: BreakerLimits
    settings: Settings
    stop: Stop
    time_slice: TimeSlice
    quarantine: Quarantine
    pauses: Pauses = field(default_factory=Pauses)
