"""The books as operators read them."""

from __future__ import annotations

from lanes import ALICE, BOB, GUEST, OTHER, claim, letter, now_ms, purchase, put

from insend_relay.operations.books import Counts, events_waiting, read_apps, read_relay, whole
from insend_relay.operations.dead import DeadLetters
from insend_relay.operations.dead_groups import groups_of
from insend_relay.operations.status import read_status
from insend_relay.outbox.store import Outbox

UPDATE = b'{"type":"order_update","properties":{"order_id":"7","state":"paid","revenue":12.5}}'


def test_an_order_update_repeats_a_revenue_and_is_not_added_to_it(outbox: Outbox) -> None:
    put(outbox, ALICE, purchase("12.5"))
    put(outbox, ALICE, UPDATE)
    book = read_relay(outbox)
    assert list(book) == ["purchase", "order_update"]
    assert [counts.revenue_waiting for counts in book.values()] == [125_000, 125_000]
    assert whole(book) == Counts(accepted=2, waiting=2, revenue_waiting=125_000)
    assert events_waiting(outbox) == 2


def test_each_app_has_books_of_its_own(outbox: Outbox) -> None:
    put(outbox, ALICE, purchase("1"))
    put(outbox, OTHER, UPDATE)
    second, shop = read_apps(outbox, 100)
    assert (second.app, second.whole) == ("second", Counts(accepted=1, waiting=1))
    assert (shop.app, list(shop.types), shop.whole.revenue_waiting) == ("shop", ["purchase"], 10_000)
    assert len(read_apps(outbox, 1)) == 1


def test_the_status_has_the_books_by_type_and_by_app(outbox: Outbox) -> None:
    put(outbox, ALICE, purchase("1.25"))
    letter(outbox, BOB, purchase("-1"))
    put(outbox, GUEST)
    held = next(held for held in claim(outbox) if held.lane == str(GUEST))
    outbox.settle(held, lease_ms=0, post_ms=30)
    found = read_status(outbox).as_dict()
    assert found["types"]["purchase"] == {
        "accepted": 2,
        "waiting": 1,
        "delivered": 0,
        "dead": 1,
        "discarded": 0,
        "replayed": 0,
        "buried": 1,
        "revenue_waiting": 1.25,
        "revenue_dead": 0.0,
        "revenue_unknown_waiting": 0,
        "revenue_unknown_dead": 1,
    }
    (app,) = found["apps"]
    assert (app["app"], app["types"]["?"]["delivered"]) == ("shop", 1)
    assert (app["post"]["count"], app["post"]["sum_seconds"], app["post"]["buckets"]["0.032"]) == (1, 0.03, 1)
    assert app["accepted_to_delivered"]["count"] == 1


def test_one_book_that_does_not_balance_is_enough(outbox: Outbox) -> None:
    put(outbox, ALICE, purchase("1"))
    put(outbox, ALICE)
    outbox.read("HINCRBY", outbox.keys.books_of("5"), "accepted", 1)
    outbox.read("HINCRBY", outbox.keys.books_of("0"), "accepted", -1)
    assert not read_status(outbox).balanced


def test_a_group_of_dead_letters_has_its_revenue_and_its_last_death(outbox: Outbox) -> None:
    before = now_ms(outbox)
    letter(outbox, ALICE, purchase("1.5"))
    letter(outbox, BOB, purchase("2"))
    letter(outbox, GUEST, purchase("-1"))
    letters = DeadLetters(outbox)
    (group,) = letters.groups()
    assert (group.type, group.reason, group.count, group.revenue, group.unknown) == (
        "purchase",
        "answered 400",
        3,
        35_000,
        1,
    )
    assert before <= group.last_ms <= now_ms(outbox)
    assert group.as_dict()["revenue"] == 3.5
    assert groups_of(letters.scan()) == [group]
