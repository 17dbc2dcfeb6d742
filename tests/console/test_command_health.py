from __future__ import annotations

import pytest
from command_line import CommandLine

from insend_relay.outbox.store import Outbox
from insend_relay.worker.health import STUCK_SECONDS, Door, Health

LONG = STUCK_SECONDS + 10


def test_without_a_worker_on_this_machine_it_is_a_finding(insend: CommandLine) -> None:
    result = insend("health")
    assert result.exit_code == 1
    assert result.stdout.startswith("NO WORKER of the namespace")
    result = insend("health", "--json")
    assert (result.exit_code, result.stdout) == (1, '{"healthy": false, "workers": []}\n')


def test_a_worker_that_makes_progress_is_healthy(insend: CommandLine, outbox: Outbox) -> None:
    Door(outbox.keys.namespace, lambda: Health(7, pump_seconds=0.4, delivery_seconds={8: 0.0, 9: 0.0})).open()
    result = insend("health")
    assert (result.exit_code, result.stdout) == (
        0,
        "OK: 1 worker makes progress\n  worker 7: pump 0.4 s ago, delivers in 2 processes\n",
    )
    found = insend.json("health")
    assert found["healthy"]
    assert [worker["pid"] for worker in found["workers"]] == [7]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Health(7, pump_seconds=LONG), "worker 7: its pump has made no progress for 130 s"),
        (
            Health(7, delivery_seconds={8: LONG, 9: 1}),
            "worker 7: its delivery has made no progress in process 8 for 130 s",
        ),
    ],
)
def test_a_worker_that_hangs_is_a_finding(insend: CommandLine, outbox: Outbox, found: Health, said: str) -> None:
    Door(outbox.keys.namespace, lambda: Health(1)).open()
    Door(outbox.keys.namespace, lambda: found).open()
    result = insend("health")
    assert result.exit_code == 1
    assert result.stdout.startswith("HUNG: a worker makes no progress")
    assert said in result.stdout


def test_a_worker_that_is_being_stopped_is_healthy(insend: CommandLine, outbox: Outbox) -> None:
    Door(outbox.keys.namespace, lambda: Health(7, stopping=True, pump_seconds=LONG)).open()
    result = insend("health")
    assert result.exit_code == 0
    assert "worker 7: stopping" in result.stdout


def test_it_asks_neither_redis_nor_the_tracker(insend: CommandLine, outbox: Outbox) -> None:
    Door(outbox.keys.namespace, lambda: Health(7)).open()
    insend.settings["INSEND_REDIS_URL"] = "redis://127.0.0.1:1/0"
    assert insend("health").exit_code == 0
