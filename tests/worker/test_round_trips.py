"""What a delivery sends to Redis for an event: one claim, and one command that writes down how it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import redis
from delivering import APP, Append, ledger

from insend_relay.console.sandbox.sandbox import Sandbox
from insend_relay.outbox.connection import connect
from insend_relay.outbox.scripts import FOLDER, load
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.worker.delivery import Delivery
from insend_relay.worker.stop import Stop

SCRIPTS = {load(path.stem).sha: path.stem for path in FOLDER.glob("*.lua")}
LOOKING_FOR_WORK = {"claim", "wake", "BLPOP"}
CONNECTING = {"HELLO", "CLIENT", "SELECT"}


@pytest.fixture
def commands_of_a_delivery(redis_url: str, namespace: str, settings: Settings) -> Callable[..., list[str]]:
    """Deliver until there is nothing to do; what Redis was asked from the first claim on, but for more claims."""

    def commands(**changes: Any) -> list[str]:
        with redis.Redis.from_url(redis_url) as watching, connect(redis_url) as own, watching.monitor() as monitor:
            delivery = Delivery(Outbox(own, namespace=namespace), replace(settings, **changes), Stop(8))
            delivery.run()
            delivery.finish()
            with redis.Redis.from_url(redis_url) as last:
                last.echo("the end")
            return list(after_the_claim(iter(monitor.next_command, None)))

    return commands


def after_the_claim(seen: Any) -> list[str]:
    """The scripts and plain commands from the first claim on; a delivery has two connections."""
    found: list[str] = []
    for one in seen:
        verb, _, rest = one["command"].partition(" ")
        if (verb, rest) == ("ECHO", "the end"):
            break
        if one["client_type"] != "lua":
            script = SCRIPTS.get(rest.partition(" ")[0], "EVAL") if verb in {"EVALSHA", "EVAL"} else verb
            found.append(script)
    return [name for name in found[found.index("claim") :] if name not in LOOKING_FOR_WORK | CONNECTING]


@pytest.fixture(autouse=True)
def _known_scripts(outbox: Outbox) -> None:
    """Redis knows all scripts, so that each is one command."""
    for path in FOLDER.glob("*.lua"):
        outbox.read("SCRIPT", "LOAD", load(path.stem).source)


def test_a_delivered_event_is_one_command(
    commands_of_a_delivery: Callable[..., list[str]], append: Append, outbox: Outbox
) -> None:
    append("1")
    assert commands_of_a_delivery() == ["settle"]
    assert ledger(outbox)["delivered"] == 1


def test_a_failed_attempt_that_counts_is_one_command(
    commands_of_a_delivery: Callable[..., list[str]], append: Append, outbox: Outbox, sandbox: Sandbox
) -> None:
    append("1")
    sandbox.misbehave(status=500)
    assert commands_of_a_delivery(retry_first_seconds=3600, retry_max_seconds=3600) == ["fail"]
    assert outbox.read("HEXISTS", outbox.keys.trying, f"{APP}/v/1")


def test_a_last_attempt_is_one_command(
    commands_of_a_delivery: Callable[..., list[str]], append: Append, outbox: Outbox, sandbox: Sandbox
) -> None:
    append("1")
    sandbox.misbehave(status=400)
    assert commands_of_a_delivery(rejected_attempts=1) == ["fail"]
    assert ledger(outbox)["dead"] == 1


def test_a_failed_attempt_that_pauses_the_app_is_one_command(
    commands_of_a_delivery: Callable[..., list[str]], append: Append, outbox: Outbox, sandbox: Sandbox
) -> None:
    append("1")
    sandbox.misbehave(status=403)
    assert commands_of_a_delivery(outage_first_seconds=600, outage_max_seconds=600) == ["fail"]
    assert outbox.read("HEXISTS", outbox.keys.outage(APP), "since")
