"""The recount: silent when all is well, also under live traffic, and naming what is not."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attempts import retry
from lanes import ALICE, BOB, GUEST, OTHER, bury, claim, discard, ledger, letter, purchase, put, quarantine
from lanes import replay as replay_one
from waiting import wait_until

from insend_relay.operations import audit as auditing
from insend_relay.operations.audit import audit
from insend_relay.operations.audit_books import moved
from insend_relay.operations.books import Counts
from insend_relay.outbox import record, scripts
from insend_relay.outbox.connection import connect
from insend_relay.outbox.facts import facts_in
from insend_relay.outbox.keys import Keys, Lane
from insend_relay.outbox.store import Outbox
from insend_relay.outbox.trying import Tried

DOCS = Path(__file__).parents[2] / "docs" / "redis.md"
WRITTEN, RESERVED = DOCS.read_text(encoding="utf-8").split("## Reserved keys")


POISON = Lane("shop", "v", "poison")


def busy_day(outbox: Outbox) -> None:
    """Events in every state there is."""
    quarantine(outbox, POISON)
    letters = [letter(outbox, lane, purchase("2.5")) for lane in (ALICE, BOB, GUEST)]
    replay_one(outbox, letters[0])
    discard(outbox, letters[1])
    for number in range(6):
        put(outbox, Lane("shop", "v", f"v-{number}"), idempotency_key=f"key-{number}")
    first, second, third, *_ = claim(outbox)
    outbox.settle(first, lease_ms=0)
    retry(outbox, second, Tried(second.id, 1, 0, 1, 1, "answered 503"), delay_ms=60_000)
    bury(outbox, third)
    put(outbox, OTHER, purchase("-1"))
    put(outbox, Lane("shop", "v", "late"), purchase("2.5"))
    outbox.pause("second")
    outbox.bury_invalid("shop", record.new_id(), lane=None, type="link", payload=b"", faults="no")


def test_an_empty_outbox_balances(outbox: Outbox) -> None:
    found = audit(outbox)
    assert (found.balanced, found.findings) == (True, [])


def test_events_in_every_state_balance_and_are_recounted(outbox: Outbox) -> None:
    busy_day(outbox)
    found = audit(outbox)
    assert found.findings == []
    assert found.balanced
    assert found.counts["waiting"] == found.counts["recounted_waiting"] == 8
    assert found.counts["dead"] == found.counts["recounted_dead"] == 3
    assert found.as_dict() == {"balanced": True, "findings": [], "counts": found.counts}


def test_a_recount_walks_over_more_keys_than_fit_one_batch(outbox: Outbox) -> None:
    for number in range(1_200):
        put(outbox, Lane("shop", "v", f"v-{number}"))
    found = audit(outbox)
    assert (found.findings, found.counts["recounted_waiting"]) == ([], 1_200)


SWAPPED = record.encode(record.Record(bytes(16), 1, 1, 0, "", purchase("9"), facts_in(purchase("9"))))


@pytest.mark.parametrize(
    ("harm", "finding"),
    [
        (lambda keys: ("HINCRBY", keys.ledger, "accepted", 1), r"ledger: accepted is 14 there and 13 in the books"),
        (lambda keys: ("HINCRBY", keys.ledger, "burials", 1), r"ledger: buried is 6 there and 5 in the books"),
        (lambda keys: ("LPOP", keys.lane(OTHER)), r"waiting, purchase of app second: the books say 1 .*, .* hold 0$"),
        (lambda keys: ("LPOP", keys.lane(OTHER)), r"waiting, purchase: the books say 2 .*, the lanes hold 1 "),
        (
            lambda keys: ("RPUSH", keys.lane(OTHER), "x"),
            r"waiting, \? of app second: the books say 0, the lanes hold 1",
        ),
        (
            lambda keys: ("LSET", keys.lane(OTHER), 0, SWAPPED),
            r"waiting, purchase of app second: the books say 1 \(revenue 0, 1 unknown\), .* hold 1 \(revenue 9\)",
        ),
        (
            lambda keys: ("HSET", keys.dead, "x", "y"),
            r"dead: the key dead has 4 letters, the indexes .* name 3, and 3 of",
        ),
        (lambda keys: ("ZADD", keys.dead_index("shop"), 1, "x"), r"dead: the key dead has 3 .* name 4, and 3 of these"),
        (lambda keys: ("SREM", keys.dead_apps, "shop"), r"app shop: has dead letters and is not in dead:apps"),
        (lambda keys: ("HSET", keys.dead_groups, "a\tb\tcount", 2), r"dead:groups, a b: says 2, the dead .* are 0"),
        (
            lambda keys: ("HINCRBY", keys.dead_groups, "purchase\tanswered 400\trevenue", 10_000),
            r"dead:groups, purchase answered 400: says 2 \(revenue 3.5\), the dead letters are 2 \(revenue 2.5\)",
        ),
        (
            lambda keys: ("HINCRBY", keys.books_of("shop/5"), "revenue_waiting", 1),
            r"waiting, purchase of app shop: the books say 1 \(revenue 2.5001\), the lanes hold 1 \(revenue 2.5\)",
        ),
        (lambda keys: ("HINCRBY", keys.books_of("5"), "revenue_dead", -1), r"dead, purchase: the books .* 2.4999"),
        (
            lambda keys: ("HINCRBY", keys.books_of("5"), "unknown_waiting", 1),
            r"waiting, purchase: the books .* 2 unknown",
        ),
        (
            lambda keys: ("HINCRBY", keys.books_of("second/5"), "unknown_waiting", -1),
            r"waiting, purchase of app second",
        ),
        (lambda keys: ("HINCRBY", keys.books_of("shop/5"), "delivered", 1), r"books, purchase of app shop: accepted 4"),
        (lambda keys: ("HINCRBY", keys.books_of("5"), "dead", 1), r"books, purchase: accepted 5 is not delivered 1"),
        (lambda keys: ("HINCRBY", keys.books_of("5"), "dead", 1), r"dead, purchase: the books say 2 .*, .* are 1"),
        (lambda keys: ("HINCRBY", keys.books_of("5"), "replayed", 1), r"books, purchase: replayed is 2 in the whole"),
        (lambda keys: ("HINCRBY", keys.books_of("shop/5"), "buried", 1), r"books, purchase: buried is 3 in the whole"),
        (lambda keys: ("ZREM", keys.due("second"), str(OTHER)), r"lane second/v/alice: holds events and is not in"),
        (lambda keys: ("ZADD", keys.due("shop"), 1, "shop/v/none"), r"lane shop/v/none: is in due:shop and holds no"),
        (
            lambda keys: ("ZADD", keys.due("shop"), 9e12, str(POISON)),
            r"lane shop/v/poison: is in due and in quarantine",
        ),
        (
            lambda keys: ("ZREM", keys.quarantine("shop"), str(POISON)),
            r"lane shop/v/poison: holds events and is not in",
        ),
        (lambda keys: ("ZADD", keys.quarantine("shop"), 1, "shop/v/none"), r"lane shop/v/none: is in quarantine:shop"),
        (
            lambda keys: ("DEL", keys.quarantine_apps),
            r"app shop: has lanes in quarantine and is not in quarantine_apps",
        ),
        (lambda keys: ("ZREM", keys.apps, "second"), r"app second: has a schedule and is not among the apps"),
        (lambda keys: ("HSET", keys.lease, "shop/v/none", "x"), r"lane shop/v/none: is in lease and holds no event"),
        (lambda keys: ("HSET", keys.trying, "shop/v/none", "x"), r"lane shop/v/none: is in trying and holds no event"),
        (lambda keys: ("HSET", keys.replaying, "x", "run shop/v/none"), r"lane shop/v/none: event 78 .* replaying"),
        (lambda keys: ("ZADD", keys.failing, 1, "shop/v/none"), r"lane shop/v/none: is in failing and holds no event"),
        (lambda keys: ("SET", keys.prefix + "stranger", 1, "PX", 60_000), r"unknown key \S+stranger"),
    ],
)
def test_what_is_wrong_is_named(outbox: Outbox, harm: Callable[[Keys], tuple[object, ...]], finding: str) -> None:
    busy_day(outbox)
    outbox.read(*harm(outbox.keys))
    found = audit(outbox)
    assert not found.balanced
    assert any(re.match(finding, said) for said in found.findings), found.findings
    assert len(found.findings) <= 3, "and little else"
    outbox.read("DEL", outbox.keys.prefix + "stranger")


def test_books_that_are_gone_are_found(outbox: Outbox) -> None:
    busy_day(outbox)
    outbox.read("DEL", outbox.keys.books_of("shop/5"))
    assert "waiting, purchase of app shop: the books say 0, the lanes hold 1 (revenue 2.5)" in audit(outbox).findings


def test_a_book_that_is_not_in_the_index_is_found(outbox: Outbox) -> None:
    busy_day(outbox)
    outbox.read("SREM", outbox.keys.books, "shop/5")
    assert "app shop: has the key books:shop/5, which is not in books" in audit(outbox).findings


def test_a_book_that_balances_and_agrees_with_no_other_is_found(outbox: Outbox) -> None:
    busy_day(outbox)
    for name in ("accepted", "delivered"):
        outbox.read("HINCRBY", outbox.keys.books_of("shop/4"), name, 1)
    outbox.read("SADD", outbox.keys.books, "shop/4")
    assert audit(outbox).findings == [
        "books, view_product: accepted is 0 in the whole relay and 1 in all apps together",
        "books, view_product: delivered is 0 in the whole relay and 1 in all apps together",
    ]


def test_a_recount_reads_a_long_lane_and_many_letters_in_steps(outbox: Outbox) -> None:
    for number in range(1_150):
        put(outbox, ALICE, purchase(f"0.{number:04}"))
    for number in range(1_040):
        outbox.bury_invalid(
            "shop", record.new_id(), lane=None, type="purchase", payload=purchase("1"), faults=f"{number}"
        )
    found = audit(outbox)
    assert found.findings == []
    assert (found.counts["recounted_waiting"], found.counts["recounted_dead"]) == (1_150, 1_040)


def test_a_lane_of_a_name_that_is_none_is_named(outbox: Outbox) -> None:
    outbox.read("RPUSH", outbox.keys.lane("nonsense"), "x")
    assert "lane nonsense: that is no lane's name" in audit(outbox).findings


def test_of_many_findings_the_first_are_named_and_the_rest_counted(outbox: Outbox) -> None:
    for number in range(auditing.NAMED + 7):
        outbox.read("HSET", outbox.keys.lease, f"shop/v/v-{number}", "x")
    findings = audit(outbox).findings
    assert len(findings) == auditing.NAMED + 1
    assert findings[-1] == "and 7 more of this kind"


class _Meddling:
    """A client between whose commands something else happens."""

    def __init__(self, redis: Any, meddle: Callable[[tuple[Any, ...]], None]) -> None:
        self.redis = redis
        self.meddle = meddle

    def execute_command(self, *args: Any) -> Any:
        reply = self.redis.execute_command(*args)
        self.meddle(args)
        return reply


def test_a_lane_that_is_emptied_and_filled_between_any_two_commands_is_no_finding(outbox: Outbox) -> None:
    put(outbox, ALICE)
    full = True

    def meddle(_: tuple[Any, ...]) -> None:
        nonlocal full
        if full:
            (held,) = claim(outbox)
            outbox.settle(held, lease_ms=0)
        else:
            put(outbox, ALICE)
        full = not full

    assert audit(Outbox(_Meddling(outbox.redis, meddle), namespace=outbox.keys.namespace)).findings == []


class _Repeating:
    """A Redis whose SCAN names a key twice, as it may while its table is resized."""

    def __init__(self, redis: Any) -> None:
        self.redis = redis

    def execute_command(self, *args: Any) -> Any:
        reply = self.redis.execute_command(*args)
        return (reply[0], [*reply[1], *reply[1]]) if args[0] == "SCAN" else reply


def test_a_lane_that_the_walk_meets_twice_is_counted_once(outbox: Outbox) -> None:
    put(outbox, ALICE)
    found = audit(Outbox(_Repeating(outbox.redis), namespace=outbox.keys.namespace))
    assert (found.findings, found.counts["recounted_waiting"]) == ([], 1)


def test_live_traffic_is_no_finding(outbox: Outbox, redis_url: str) -> None:
    stop = threading.Event()

    def traffic(seed: int) -> None:
        with connect(redis_url) as client:
            mine = Outbox(client, namespace=outbox.keys.namespace)
            number = 0
            while not stop.is_set():
                number += 1
                put(mine, Lane("shop", "v", f"v-{seed}-{number % 50}"), purchase("1.5") if number % 3 else b"{}")
                for at, held in enumerate(mine.claim(f"w-{seed}", 3, lease_ms=60_000)):
                    if (number + at) % 5:
                        mine.settle(held, lease_ms=0)
                    else:
                        bury(mine, held, lease_ms=0)
                        replay_one(mine, held.id)

    threads = [threading.Thread(target=traffic, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: ledger(outbox, "accepted")[0] > 100)
        findings = audit(outbox).findings
        while ledger(outbox, "accepted")[0] < 2_000:
            assert all(thread.is_alive() for thread in threads)
            findings += audit(outbox).findings
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert findings == []


def test_what_moved_is_told_from_the_counts_that_only_rise() -> None:
    before = Counts(accepted=10, delivered=5, waiting=3, dead=2, buried=2)
    assert moved(before, before) == 0
    after = Counts(accepted=14, delivered=7, waiting=4, dead=2, discarded=1, replayed=3, buried=6)
    assert moved(before, after) == 4 + 2 + 1 + 3 + 4


def test_the_table_in_the_docs_names_exactly_the_keys_that_there_are() -> None:
    keys = Keys("NAMESPACE")
    documented = set(re.findall(r"^\| `([^`]+)` \|", WRITTEN, re.MULTILINE))
    fixed = {
        value for name, value in vars(keys).items() if isinstance(value, str) and name not in {"namespace", "prefix"}
    }
    families = {keys.due("APP"), keys.lane("LANE"), keys.outage("APP"), keys.suspects("APP"), keys.replay("RUN")}
    families |= {keys.dead_index("APP"), keys.latency("APP"), keys.books_of("TYPE"), keys.books_of("APP/TYPE")}
    families |= {keys.quarantine("APP"), keys.behind("LANE"), keys.slot("SLOT"), keys.spool("FILE")}
    families |= {keys.prefix + name for name in ("pulse:MINUTE", "once:APP:KEY", "erased:HASH")}  # spelled by scripts
    assert documented == {name.removeprefix(keys.prefix).replace("{NAMESPACE}:", "") for name in fixed | families}


def test_reserved_keys_are_names_that_the_layout_does_not_use() -> None:
    reserved = re.findall(r"^\| `([^`]+)` \|", RESERVED, re.MULTILINE)
    assert len(reserved) == 5
    assert not any(Keys().knows(Keys().prefix + name) for name in reserved)


def test_the_scripts_spell_no_key_that_the_docs_do_not_know() -> None:
    documented = set(re.findall(r"^\| `([a-z:]+)", WRITTEN, re.MULTILINE))
    for path in scripts.FOLDER.rglob("*.lua"):
        for family in re.findall(r"prefix \.\. '([^']+)'", path.read_text(encoding="utf-8")):
            assert family in documented, path.name
            assert Keys().knows(f"{Keys().prefix}{family}x"), path.name
