"""A chaos run whose Redis fails over: a Sentinel promotes the replica, and whoever connects anew is led to it.

Producers ask for replicated receipts. A failover may lose what the replica did not have, and so what no receipt called
confirmed, and it may have forgotten that an event was sent; nothing else.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from chaos_books import Told, Wrong
from chaos_clock_faults import STEPS
from chaos_faults import FAULTS, Fault
from chaos_pair import Pair, follow
from chaos_run import Run
from faketime import ClockedRedis

from insend_relay.outbox.connection import connect
from insend_relay.outbox.store import Outbox

BESIDE = (  # what else is broken between failovers
    "worker: group killed",
    "workers: all killed",
    "worker: stopped past its lease",
    "producer: killed in mid-call",
    "shutdown: SIGTERM while posting",
    "network: producer to redis cut",
    "network: producer to redis swallowed",
    "network: worker to redis cut",
    "network: worker to tracker cut",
    "tracker: late",
    "tracker: any status",
)


class FailoverRun(Run):
    """A run on a pair of servers.

    Args:
        folder: For all files.
        seed: Of all chances.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(folder, seed, durability="replicated")
        # A primary that the others have left takes nothing: what Sentinel's own guide asks for.
        config = {"appendfsync": "always", "min-replicas-to-write": "1", "min-replicas-max-lag": "2"}
        self.pair = Pair(folder, config)
        self.forgetting = self._not_replicated
        self._over = threading.Event()
        self._leader = threading.Thread(target=self._lead, daemon=True)

    def start_redis(self) -> None:
        self.pair.start()
        self.redis = self.pair.primary

    def end_redis(self) -> None:
        self.pair.kill()

    def __enter__(self) -> Self:
        super().__enter__()
        self._leader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._leader.join()
        super().__exit__(kind, error, trace)

    def in_step(self) -> ClockedRedis:
        """The primary, once its replica has all that it has."""
        self.pair.wait(self.pair.replica_follows)
        return self.pair.primary

    def rejoin(self, old: ClockedRedis) -> None:
        """What was the primary becomes a replica of its successor."""
        follow(old, self.pair.primary)

    def _lead(self) -> None:
        """Lead new connections to the primary, as a name would; those that are open stay where they are."""
        while not self._over.wait(0.05):
            with suppress(redis.RedisError):
                primary = self.pair.primary
                if primary is not self.redis:
                    self.redis = primary
                    self.outbox = Outbox(connect(primary.url, timeout_seconds=30))
                    self.witness.ask(primary.url)
                    for proxy in (self.producers_redis, self.workers_redis):
                        proxy.target = primary.port

    def _not_replicated(self, wrong: Wrong, told: Told) -> bool:
        if wrong.kind == "lost":
            return wrong.event not in told.sure
        return wrong.kind == "unmarked"


def _failover(fault: str) -> Fault:
    def act(run: Run) -> None:
        assert isinstance(run, FailoverRun)
        old = run.in_step()
        time.sleep(run.chances.uniform(0, 1))
        if fault == "killed":
            old.kill()
        elif fault == "frozen":
            os.kill(old.pid, signal.SIGSTOP)
        else:
            run.pair.promote()
        run.pair.wait(lambda: run.pair.primary is not old)
        time.sleep(run.chances.uniform(0, 1))
        if fault == "killed":
            old.start()
        elif fault == "frozen":
            os.kill(old.pid, signal.SIGCONT)
        time.sleep(run.chances.uniform(0, 1))  # it thinks that it is the primary, unless Sentinel was there first
        run.rejoin(old)

    return act


def _late_clock(run: Run) -> None:
    """For the outbox a step back, together with what a failover loses; afterwards both clocks agree again."""
    assert isinstance(run, FailoverRun)
    seconds = run.chances.choice(tuple(STEPS.values()))
    old, new = run.in_step(), run.pair.other
    new.step(-seconds)
    time.sleep(run.chances.uniform(0, 1))
    old.kill()
    run.pair.wait(lambda: run.pair.primary is new and run.redis is new)
    old.step(-seconds)
    old.start()
    run.rejoin(old)
    run.in_step()
    run.must_deliver(run.sender.new_visitors(20), f"after a failover to a replica whose clock is {seconds} s late")


def _replica(how: signal.Signals) -> Fault:
    def act(run: Run) -> None:
        assert isinstance(run, FailoverRun)
        run.in_step()
        replica = run.pair.other
        if how == signal.SIGKILL:
            replica.kill()
        else:
            os.kill(replica.pid, how)
        time.sleep(3)
        if how == signal.SIGKILL:
            replica.start()
            run.rejoin(replica)
        else:
            os.kill(replica.pid, signal.SIGCONT)

    return act


FAILOVERS: dict[str, Fault] = {
    "failover: primary killed": _failover("killed"),
    "failover: primary frozen until it is replaced": _failover("frozen"),
    "failover: by the operator": _failover("asked for"),
    "failover: to a replica with a late clock": _late_clock,
    "replica: killed": _replica(signal.SIGKILL),
    "replica: frozen": _replica(signal.SIGSTOP),
    **{name: FAULTS[name] for name in BESIDE},
}
