"""How the Redis that holds the outbox is set up, and how delivery stands: the facts by which ``insend doctor`` judges.

A hosted Redis may forbid some of the commands; what it does not say is None. The judgement and its words are in
``console/commands/redis_findings.py`` and ``delivery_findings.py``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import ResponseError

from insend_relay.operations.status import Status, read_status
from insend_relay.outbox.connection import check_server, run_together
from insend_relay.outbox.durability import Asking, Durability
from insend_relay.outbox.errors import ClusterMode, OutboxError, OutboxRefused
from insend_relay.outbox.heartbeat import other_namespaces
from insend_relay.outbox.store import Outbox

CONFIRM_MS = 1_500  # how long Redis may take to confirm a write to the doctor
MANY_KEYS = 1_000  # of so many keys it is checked whether they are ours


@dataclass(slots=True)
class Facts:
    """What Redis says of itself; None where it does not.

    Attributes:
        info: INFO, all sections in one.
        config: The settings that matter.
        strangers: Whether keys that are not ours lie in the database.
        user: Who we are, by ACL WHOAMI.
        clock_ahead_seconds: Redis's clock less this machine's.
        question_refused: Why it does not take the question of ``INSEND_DURABILITY``; "" when it does, or none is asked.
        confirmed_after_ms: How long it took to confirm a write; None when it did not within ``CONFIRM_MS``.
        keys_refused: Why this user may not touch our keys; "" when it may.
        cluster: Whether Redis runs in cluster mode.
        status: How delivery stands.
        other_namespaces: Other namespaces of this Redis with a worker that is alive.
    """

    info: dict[str, str] | None = None
    config: dict[str, str] | None = None
    strangers: bool | None = None
    user: str | None = None
    clock_ahead_seconds: float | None = None
    question_refused: str = ""
    confirmed_after_ms: float | None = None
    keys_refused: str = ""
    cluster: bool = False
    status: Status | None = None
    other_namespaces: list[str] = field(default_factory=list)


def read_facts(outbox: Outbox, durability: Durability = "memory") -> Facts:
    """Ask Redis; what it refuses to say is None. OutboxUnreachable when it is not there.

    Args:
        outbox: The one to look at.
        durability: What producers ask behind an append; for any but memory this writes a key that is gone in a second.
    """
    facts = Facts()
    before = time.time()
    seconds, micros = outbox.read("TIME")
    facts.clock_ahead_seconds = int(seconds) + int(micros) / 1e6 - (before + time.time()) / 2
    facts.cluster = _is_cluster(outbox)
    facts.info = _asked(lambda: _lines(outbox.read("INFO")))
    facts.config = _asked(lambda: _config(outbox))
    facts.strangers = _asked(lambda: _has_strangers(outbox))
    try:
        outbox.read("HGET", outbox.keys.ledger, "accepted")
    except ClusterMode:
        facts.cluster = True
    except OutboxRefused as error:
        facts.keys_refused = str(error)
    if asking := Asking.about(durability):
        write = ("SET", outbox.keys.slot("doctor"), "looks", "PX", 1_000)
        start = time.perf_counter()
        _, said = run_together(outbox.redis, write, asking.question.command(CONFIRM_MS))
        if isinstance(said, ResponseError):
            facts.question_refused = str(asking.question.refusal(said))
        elif asking.question.holds(said):
            facts.confirmed_after_ms = (time.perf_counter() - start) * 1000
    facts.user = _asked(lambda: _text(outbox.read("ACL", "WHOAMI")))
    facts.status = status = _asked(lambda: read_status(outbox))
    if status is not None and not status.workers.alive:
        facts.other_namespaces = _asked(lambda: other_namespaces(outbox, status.now_ms)) or []
    return facts


def _is_cluster(outbox: Outbox) -> bool:
    try:
        check_server(outbox.redis)
    except ClusterMode:
        return True
    return False


def _asked(question: Any) -> Any:
    try:
        return question()
    except OutboxError:  # forbidden, or a proxy that does not know the command
        return None


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _lines(reply: Any) -> dict[str, str]:
    """INFO, as redis-py has read it or as it came."""
    if isinstance(reply, dict):
        return {_text(name): _text(value) for name, value in reply.items()}
    lines = _text(reply).splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _config(outbox: Outbox) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in ("appendonly", "appendfsync", "maxmemory-policy", "maxclients"):
        reply = outbox.read("CONFIG", "GET", name)
        pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
        found |= {_text(key): _text(value) for key, value in pairs}
    return found


def _has_strangers(outbox: Outbox) -> bool:
    """Whether one of the first keys is neither ours nor our Celery's."""
    cursor: Any = 0
    seen = 0
    ours = (outbox.keys.prefix, outbox.keys.layout, f"{outbox.keys.namespace}:celery:")
    while True:
        cursor, keys = outbox.read("SCAN", cursor, "COUNT", 500)
        if any(not _text(key).startswith(ours) for key in keys):
            return True
        seen += len(keys)
        if not int(cursor) or seen > MANY_KEYS:
            return False
