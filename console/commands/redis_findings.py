"""What ``insend doctor`` says about Redis: how it is set up, what is at stake, and the fix.

``operations/doctor.py`` reads the facts. A hosted Redis that forbids a command is judged by what can be seen.
"""

from __future__ import annotations

from collections.abc import Iterator

from insend_relay.console.commands.finding import Finding
from insend_relay.operations.doctor import Facts
from insend_relay.outbox.durability import Asking, patience_ms
from insend_relay.outbox.hello import CLUSTER
from insend_relay.outbox.redis_url import RedisUrl
from insend_relay.outbox.settings import Settings

CLOCK_SECONDS = 60.0  # no event depends on clocks, but times in logs that differ by more mislead people
LEAST_HEADROOM = 0.2  # of maxmemory
LEAST_VERSION = {"redis": (6, 2), "valkey": (8, 0)}
WORKERS, PRODUCERS = 16, 32  # connections of a process at most: a worker's pool has 8, and Celery some of its own


def redis_findings(facts: Facts, settings: Settings) -> list[Finding]:
    """All findings about Redis, in the order in which a person wants them."""
    findings: list[Finding] = []
    for check in (
        _version,
        _cluster,
        _persistence,
        _durability,
        _disk,
        _memory,
        _replicas,
        _database,
        _connections,
        _access,
        _clock,
    ):
        findings += check(facts, settings)
    return findings


def _version(facts: Facts, _: Settings) -> Iterator[Finding]:
    if facts.info is None:
        yield Finding(
            "version", "unseen", "Redis does not say (INFO is forbidden); Redis 6.2, Valkey 8 or newer is needed"
        )
        return
    kind = "valkey" if "valkey_version" in facts.info else "redis"
    said = facts.info.get(f"{kind}_version", "0")
    version = tuple(int(part) for part in said.split(".")[:2] if part.isdecimal())
    least = LEAST_VERSION[kind]
    if version < least:
        wanted = ".".join(map(str, least))
        yield Finding("version", "bad", f"{kind} {said}: our scripts are tested from {wanted} on; upgrade it")
    else:
        yield Finding("version", "good", f"{kind} {said}")


def _cluster(facts: Facts, _: Settings) -> Iterator[Finding]:
    if facts.cluster:
        yield Finding("cluster", "bad", f"{CLUSTER}; no event can be delivered from it")


def _persistence(facts: Facts, _: Settings) -> Iterator[Finding]:
    if facts.config is None:
        yield Finding(
            "persistence",
            "unseen",
            "CONFIG is forbidden here: ask whoever runs this Redis for an append-only file with appendfsync always or "
            "everysec; without one a restart loses every waiting event",
        )
        return
    if facts.config.get("appendonly") != "yes":
        yield Finding(
            "persistence",
            "bad",
            "appendonly no: a restart loses every waiting event; set appendonly yes (deploy/redis.conf)",
        )
    elif facts.config.get("appendfsync") == "always":
        yield Finding("persistence", "good", "appendonly yes, appendfsync always: survives a power cut")
    elif facts.config.get("appendfsync") == "everysec":
        yield Finding(
            "persistence",
            "look",
            "appendfsync everysec: a power cut loses up to about 2 s of events; always loses none",
        )
    else:
        yield Finding(
            "persistence",
            "bad",
            "appendfsync no: a power cut loses up to half a minute of events; set appendfsync always or everysec",
        )


def _durability(facts: Facts, settings: Settings) -> Iterator[Finding]:
    """Whether Redis can confirm what ``INSEND_DURABILITY`` asks."""
    asking = Asking.about(settings.durability)
    if asking is None:
        return
    setting = f"INSEND_DURABILITY={settings.durability}"
    waits_ms = patience_ms(settings.enqueue_timeout_ms / 1000)
    if facts.question_refused:
        yield Finding("durability", "bad", f"{facts.question_refused}; until then no event goes into Redis")
    elif facts.confirmed_after_ms is None:
        held = ", and a spool stands still" if settings.durability == "fsync" else ""
        yield Finding("durability", "bad", f"{setting}: no event is confirmed{held}: {asking.question.failing}")
    elif (facts.config or {}).get("appendfsync", "always") != "always" and settings.durability == "fsync":
        text = f"a call waits {waits_ms} ms for a disk that is synced once a second: set appendfsync always"
        yield Finding("durability", "look", f"{setting}: most events stay unconfirmed, {text}")
    elif facts.confirmed_after_ms > waits_ms:
        text = f"a call waits {waits_ms} ms, and Redis took {facts.confirmed_after_ms:.0f} to confirm a write"
        yield Finding("durability", "look", f"{setting}: {text}; {asking.question.failing}")
    else:
        yield Finding("durability", "good", f"{setting}: Redis confirmed a write")


def _disk(facts: Facts, _: Settings) -> Iterator[Finding]:
    info = facts.info or {}
    if info.get("aof_last_write_status", "ok") != "ok":
        yield Finding(
            "disk", "bad", "the last write to the append-only file failed: Redis takes nothing; free its disk"
        )
    elif "err" in {info.get("rdb_last_bgsave_status"), info.get("aof_last_bgrewrite_status")}:
        yield Finding("disk", "bad", "Redis could not save to its disk: see its log, and free some room")
    elif info:
        yield Finding("disk", "good", "the last writes to disk went well")
    if info.get("loading", "0") != "0":
        yield Finding("disk", "look", "Redis is still loading its data; until then it takes nothing")


def _memory(facts: Facts, _: Settings) -> Iterator[Finding]:
    info = facts.info or {}
    policy = (facts.config or {}).get("maxmemory-policy") or info.get("maxmemory_policy")
    if policy is None:
        yield Finding("memory", "unseen", "Redis does not say its maxmemory-policy; it has to be noeviction")
    elif policy != "noeviction":
        yield Finding(
            "memory",
            "bad",
            f"maxmemory-policy {policy}: a full Redis deletes waiting events; set maxmemory-policy noeviction",
        )
    most, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    refusal = facts.status and facts.status.refusal
    if refusal and refusal.full:
        yield Finding("memory", "bad", "maxmemory is reached: Redis refuses new events; raise maxmemory")
        return
    if policy == "noeviction" and not most:
        yield Finding(
            "memory", "look", "noeviction, maxmemory not set: a long outage may use up the machine; set maxmemory"
        )
    elif most and used > (1 - LEAST_HEADROOM) * most:
        yield Finding(
            "memory", "look", f"{used / most:.0%} of maxmemory are used; when it is full, producers are refused"
        )
    elif policy == "noeviction":
        yield Finding("memory", "good", f"noeviction, {used / most:.0%} of maxmemory are used")


def _replicas(facts: Facts, _: Settings) -> Iterator[Finding]:
    if facts.info is None:
        return
    if facts.info.get("role") not in {"master", None}:
        yield Finding(
            "replicas", "bad", "this is a replica, which takes nothing: point INSEND_REDIS_URL at the primary"
        )
        return
    replicas = int(facts.info.get("connected_slaves", 0))
    if replicas:
        text = f"{replicas} connected; a failover loses what had not reached them yet"
        yield Finding("replicas", "look", text)
    else:
        yield Finding("replicas", "look", "none: when this machine is gone, so are the waiting events")


def _database(facts: Facts, settings: Settings) -> Iterator[Finding]:
    if facts.strangers is None:
        yield Finding("database", "unseen", "Redis does not say whether others keep keys here (SCAN is forbidden)")
    elif facts.strangers:
        yield Finding(
            "database",
            "look",
            "others keep keys here too: a FLUSHDB of theirs takes every waiting event, and their memory is ours; "
            "give us a database, better a Redis, of our own",
        )
    else:
        yield Finding("database", "good", f"all keys are ours (namespace {settings.namespace})")


def _connections(facts: Facts, _: Settings) -> Iterator[Finding]:
    info = facts.info or {}
    most = int(info.get("maxclients", 0) or (facts.config or {}).get("maxclients", 0))
    if not most:
        yield Finding("connections", "unseen", "Redis does not say how many it allows")
        return
    used = int(info.get("connected_clients", 0))
    text = f"{used} of {most:,}; a worker's process may use {WORKERS}, a producer's {PRODUCERS}"
    yield Finding("connections", "look" if used + 4 * (WORKERS + PRODUCERS) > most else "good", text)


def _access(facts: Facts, settings: Settings) -> Iterator[Finding]:
    url = RedisUrl.parse(settings.redis_url)
    local = url.is_local
    if facts.keys_refused:
        yield Finding(
            "access", "bad", f"{facts.keys_refused}: nothing can be kept; docs/deploy.md has the rights we need"
        )
    if url.kind == "tcp" and not local:
        yield Finding("access", "look", "no TLS: whoever listens reads personal data and the password; use rediss://")
    if url.tls.get("ssl_cert_reqs") == "none":
        yield Finding(
            "access",
            "look",
            "ssl_cert_reqs=none: an impostor reads personal data and the password; name the server's authority by "
            "ssl_ca_certs instead",
        )
    if not local and not url.password:
        yield Finding("access", "look", "no password: whoever reaches the port reads and writes every event")
    if facts.user == "default":
        text = "as the user default; a user with our keys alone (docs/deploy.md) can harm nobody else's"
        yield Finding("access", "good" if local else "look", text)
    elif facts.user and not facts.keys_refused:
        yield Finding("access", "good", f"as the user {facts.user}")


def _clock(facts: Facts, _: Settings) -> Iterator[Finding]:
    if facts.status is not None and any(facts.status.far_ahead):
        apps, lanes = facts.status.far_ahead
        what = f"scheduled further ahead than any wait can be: {lanes:,} visitors, {apps:,} apps"
        text = f"Redis's clock was set back ({what})"
        fix = "a running worker makes them due again within a second, so see that one runs; run NTP where Redis runs"
        yield Finding("clock", "look", f"{text}; {fix}")
        return
    ahead = facts.clock_ahead_seconds
    if ahead is not None and abs(ahead) > CLOCK_SECONDS:
        text = f"Redis's is {abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
        yield Finding("clock", "look", f"{text}; no event hangs on it, but times in logs will not match: run NTP")
    elif ahead is not None:
        yield Finding("clock", "good", f"within {CLOCK_SECONDS:.0f} s of Redis's")
