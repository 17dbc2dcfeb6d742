"""Steps back of Redis's clock: what they leave scheduled too far ahead.

All times in Redis are times of its own clock. When that clock is set back by an hour, or a failover promotes a
replica whose clock is an hour behind, everything that was due a moment before is due in an hour. ``ClockSteps`` finds
what lies further ahead than any wait can be (``settings.MAX_WAIT_SECONDS``, ``MAX_LEASE_SECONDS``,
``MAX_TURN_SECONDS``) and makes it due again; ``lua/pull_back.lua`` has the rules. A step forward needs nothing: waits
and leases end early, and what may have been sent is marked as a possible duplicate.
"""

from __future__ import annotations

from typing import NamedTuple

from insend_relay.outbox.scripts import Scripts
from insend_relay.outbox.settings import MAX_LEASE_SECONDS, MAX_TURN_SECONDS, MAX_WAIT_SECONDS
from insend_relay.outbox.store import Outbox

MOST_STEPS = 100  # of one look: 64 apps each


class FarAhead(NamedTuple):
    """What was scheduled further ahead than anything can be.

    Attributes:
        apps: How many apps.
        lanes: How many lanes.
    """

    apps: int
    lanes: int


NOTHING_AHEAD = FarAhead(0, 0)


class ClockSteps:
    """Finds it, in bounded steps.

    Args:
        outbox: The outbox to look at.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._scripts = Scripts(outbox.redis, outbox.keys)
        self._rank = 0
        self._page = 0
        self._further = False
        self.more = False

    def pull_back(self) -> FarAhead:
        """Make due again what is found in one bounded step; ``more`` says that another step should follow at once.

        A sweep over all apps looks at 500 lanes of each, the next sweep at the next 500: lanes of which many wait
        rightly, far ahead, do not hide others.

        Raises:
            OutboxError: Redis failed.
        """
        return self._step(only_look=False)

    def look(self) -> FarAhead:
        """Count what there is and change nothing; of an app with very many lanes only the first 500 are counted.

        Raises:
            OutboxError: Redis failed.
        """
        apps = lanes = 0
        for _ in range(MOST_STEPS):
            found = self._step(only_look=True)
            apps, lanes = found.apps, lanes + found.lanes  # each step counts all apps
            if not self._rank:
                break
        return FarAhead(apps, lanes)

    def _step(self, *, only_look: bool) -> FarAhead:
        apps, lanes, self._rank, more, further = self._scripts.run(
            "pull_back",
            first_app=self._rank,
            page=0 if only_look else self._page,
            wait_ms=MAX_WAIT_SECONDS * 1000,
            lease_ms=MAX_LEASE_SECONDS * 1000,
            patience_ms=MAX_TURN_SECONDS * 1000,
            only_look="1" if only_look else "",
        )
        self.more = bool(more)
        self._further = self._further or bool(further)
        if not self._rank and not more and not only_look:  # the sweep has ended
            self._page = self._page + 1 if self._further else 0
            self._further = False
        return FarAhead(apps, lanes)
