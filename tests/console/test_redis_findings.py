"""The doctor sees what could cost events, says the fix, and never fails on a Redis that does not answer a question."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import redis
from lanes import put

from insend_relay.console.commands.redis_findings import redis_findings
from insend_relay.console.sandbox.embedded import EmbeddedRedis, Server
from insend_relay.operations.doctor import Facts, read_facts
from insend_relay.operations.status import read_status
from insend_relay.outbox.clock_steps import FarAhead
from insend_relay.outbox.connection import connect
from insend_relay.outbox.durability import Durability
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox

LOCAL = Settings(redis_url="redis://127.0.0.1:6379/0")
GOOD_CONFIG = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "maxclients": "10000"}
GOOD_INFO = {
    "redis_version": "7.2.4",
    "role": "master",
    "maxmemory": "1000",
    "used_memory": "100",
    "connected_clients": "3",
    "aof_last_write_status": "ok",
}


def said(facts: Facts, settings: Settings = LOCAL) -> dict[str, str]:
    """The findings: what about, and how it stands; the last of several."""
    return {finding.about: f"{finding.state}: {finding.text}" for finding in redis_findings(facts, settings)}


def with_info(**changes: str) -> Facts:
    return Facts(
        info={**GOOD_INFO, **changes}, config=GOOD_CONFIG, strangers=False, user="insend", clock_ahead_seconds=0
    )


def with_config(**changes: str) -> Facts:
    facts = with_info()
    facts.config = {**GOOD_CONFIG, **{name.replace("_", "-"): value for name, value in changes.items()}}
    return facts


@pytest.mark.parametrize(
    ("server", "durability", "expected"),
    [
        ("redis", "fsync", "bad: INSEND_DURABILITY=fsync needs WAITAOF"),
        ("valkey", "fsync", "good: INSEND_DURABILITY=fsync: Redis confirmed a write"),
        (
            "valkey",
            "replicated",
            "bad: INSEND_DURABILITY=replicated: no event is confirmed: no replica has them in time",
        ),
    ],
)
def test_whether_redis_can_confirm_events(
    server: Server, durability: Durability, expected: str, tmp_path: Path
) -> None:
    with EmbeddedRedis(tmp_path, server=server) as running, connect(running.url) as client:
        facts = read_facts(Outbox(client), durability)
    settings = Settings(durability=durability, enqueue_timeout_ms=60_000)  # a slow disk must not decide
    assert said(facts, settings)["durability"].startswith(expected)


def test_a_disk_that_is_synced_once_a_second_is_too_slow_for_calls() -> None:
    facts = with_config(appendfsync="everysec")
    facts.confirmed_after_ms = 3
    found = said(facts, Settings(durability="fsync"))
    assert found["durability"].startswith("look: INSEND_DURABILITY=fsync: most events stay unconfirmed")


def test_a_redis_that_does_not_say_how_it_is_set_up_is_judged_by_the_time_that_it_took() -> None:
    facts = Facts(confirmed_after_ms=700)
    found = said(facts, Settings(durability="fsync"))
    assert found["durability"].startswith(
        "look: INSEND_DURABILITY=fsync: a call waits 100 ms, and Redis took 700 to confirm a write"
    )


def test_all_is_well_with_a_redis_as_we_ship_it(tmp_path: Path) -> None:
    config = {"maxmemory": "100mb"}
    with EmbeddedRedis(tmp_path, server="redis", config=config) as server, connect(server.url) as client:
        outbox = Outbox(client)
        put(outbox)
        found = said(read_facts(outbox), Settings(redis_url=server.url))
    replicas = found.pop("replicas")
    assert replicas.startswith("look: none"), "which is worth a thought"
    assert {about: text for about, text in found.items() if not text.startswith("good")} == {}
    assert {"version", "persistence", "disk", "memory", "database", "connections", "access", "clock"} == found.keys()


@pytest.mark.parametrize(
    ("facts", "about", "expected"),
    [
        (with_config(appendonly="no"), "persistence", "bad: appendonly no"),
        (with_config(appendfsync="everysec"), "persistence", "look: appendfsync everysec"),
        (with_config(appendfsync="no"), "persistence", "bad: appendfsync no"),
        (with_config(maxmemory_policy="allkeys-lru"), "memory", "bad: maxmemory-policy allkeys-lru"),
        (with_info(maxmemory="0"), "memory", "look: noeviction, maxmemory not set"),
        (with_info(used_memory="900"), "memory", "look: 90% of maxmemory"),
        (with_info(), "memory", "good: noeviction, 10%"),
        (with_info(redis_version="6.0.16"), "version", "bad: redis 6.0.16"),
        (with_info(valkey_version="8.1.0"), "version", "good: valkey 8.1.0"),
        (with_info(aof_last_write_status="err"), "disk", "bad: the last write"),
        (with_info(rdb_last_bgsave_status="err"), "disk", "bad: Redis could not save"),
        (with_info(loading="1"), "disk", "look: Redis is still loading"),
        (with_info(role="slave"), "replicas", "bad: this is a replica"),
        (with_info(connected_slaves="2"), "replicas", "look: 2 connected"),
        (with_info(maxclients="100"), "connections", "look: 3 of 100"),
        (with_info(), "connections", "good: 3 of 10,000"),
    ],
)
def test_what_could_cost_events_is_said(facts: Facts, about: str, expected: str) -> None:
    assert said(facts)[about].startswith(expected)


def test_a_clock_that_was_set_back_is_worth_a_look_and_a_worker_helps(outbox: Outbox) -> None:
    put(outbox)
    facts = with_info()
    facts.status = read_status(outbox)
    assert said(facts)["clock"].startswith("good: ")
    facts.status = replace(facts.status, far_ahead=FarAhead(2, 12))
    assert said(facts)["clock"].startswith("look: Redis's clock was set back (scheduled further ahead than any wait")
    assert "12 visitors, 2 apps); a running worker makes them due again" in said(facts)["clock"]


def test_what_is_scheduled_too_far_ahead_is_found_and_left_there(outbox: Outbox) -> None:
    put(outbox)
    assert read_status(outbox).far_ahead == (0, 0)
    for key in (outbox.keys.apps, outbox.keys.due("shop")):
        (member,) = outbox.read("ZRANGE", key, 0, -1)
        outbox.read("ZINCRBY", key, 3_600_000, member)  # as a step back of an hour leaves it
    assert [read_status(outbox).far_ahead for _ in range(2)] == [(1, 1), (1, 1)]


def test_a_clock_that_is_off_is_worth_a_look() -> None:
    for ahead, words in ((86_400.0, "86,400 s ahead of"), (-120.0, "120 s behind")):
        facts = with_info()
        facts.clock_ahead_seconds = ahead
        assert words in said(facts)["clock"]


def test_others_keys_are_worth_a_look(outbox: Outbox, client: redis.Redis, namespace: str) -> None:
    put(outbox)
    client.set(f"stranger-{namespace}", 1)
    assert said(read_facts(outbox))["database"].startswith("look: others keep keys here too")
    client.delete(f"stranger-{namespace}")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://redis.example.net:6379/0", ["no TLS", "no password", "as the user default"]),
        ("rediss://:secret@redis.example.net:6379/0", ["as the user default"]),
        (
            "rediss://:secret@redis.example.net:6379/0?ssl_cert_reqs=none",
            ["ssl_cert_reqs=none: an impostor reads", "as the user default"],
        ),
        ("redis://127.0.0.1:6379/0", []),
        ("unix:///run/redis.sock", []),
    ],
)
def test_the_way_to_redis_is_looked_at(url: str, words: list[str]) -> None:
    facts = with_info()
    facts.user = "default"
    found = [finding for finding in redis_findings(facts, Settings(redis_url=url)) if finding.about == "access"]
    assert [word for word in words if any(word in finding.text for finding in found)] == words
    assert [finding.state for finding in found] == (["look"] * len(words) or ["good"])
    assert "secret" not in repr(found)


def test_a_hosted_redis_that_forbids_to_ask_is_judged_by_what_can_be_seen(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path, server="redis") as server, connect(server.url) as client:
        client.acl_setuser(
            "guest", enabled=True, passwords=["+word"], keys=["*"], commands=["+time", "+ping", "+select", "+client"]
        )
        url = server.url.replace("redis://", "redis://guest:word@")
        with connect(url) as guest:
            facts = read_facts(Outbox(guest))
    assert (facts.info, facts.config, facts.strangers, facts.user) == (None, None, None, None)
    assert "permission" in facts.keys_refused
    found = said(facts)
    assert found.pop("access").startswith("bad: Redis refused the command")
    unseen = {about for about, text in found.items() if text.startswith("unseen")}
    assert unseen == {"version", "persistence", "memory", "database", "connections"}
