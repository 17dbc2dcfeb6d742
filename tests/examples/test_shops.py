"""Each example shop under its production server with two workers, visited over HTTP by many at once."""

from __future__ import annotations

import os
import runpy
import string
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from shops import REPOSITORY, SHOPS, Shop
from visiting import Visit, buy
from waiting import wait_until

from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.operations.status import Status, read_status
from insend_relay.outbox.connection import connect
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.record import decode
from insend_relay.outbox.store import Outbox

VISITS = 50
LOOKED_AROUND = ["link", "link", "view_product", "update_cart", "link", "view_product", "update_cart"]
BOUGHT = ["update_info", "purchase", "order_update"]
Serve = Callable[..., Any]


def name_of(number: int) -> str:
    """A customer's name, of letters alone."""
    return "buyer" + "".join(string.ascii_lowercase[int(digit)] for digit in f"{number:03}")


def settled(shop: Shop) -> Status:
    """The books once nothing waits."""
    with connect(shop.redis_url) as client:
        outbox = Outbox(client)
        wait_until(lambda: read_status(outbox).waiting == 0)
        return read_status(outbox)


def test_fifty_visits_at_once_arrive_each_under_its_own_uids_and_in_order(shop: Shop) -> None:
    def visit(number: int) -> str:
        return buy(Visit(shop.url, guest_uid=f"G.{number}"), name_of(number))

    with ThreadPoolExecutor(VISITS) as people:
        orders = list(people.map(visit, range(VISITS)))
    assert len(set(orders)) == VISITS
    status = settled(shop)
    assert (status.dead, status.duplicates_possible) == (0, 0)
    seen: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in shop.received():
        seen[event["visitor_uid"] or event["guest_uid"]].append(event)
    for number, order_id in enumerate(orders):
        check_guest(seen.pop(f"G.{number}"))
        check_customer(seen.pop(f"customer-{name_of(number)}"), number, order_id)
    assert not [uid for uid in seen if uid.startswith(("G.", "customer-buyer"))]


def check_guest(events: list[dict[str, Any]]) -> None:
    assert [event["type"] for event in events] == LOOKED_AROUND
    carts = [event["properties"]["items"] for event in events if event["type"] == "update_cart"]
    assert [[item["product_id"] for item in cart] for cart in carts] == [["1"], ["1", "2"]]
    viewed = [event["properties"]["product_id"] for event in events if event["type"] == "view_product"]
    assert viewed == ["1", "2"]


def check_customer(events: list[dict[str, Any]], number: int, order_id: str) -> None:
    assert [event["type"] for event in events] == BOUGHT
    login, purchase, shipped = events
    assert [event["guest_uid"] for event in events] == [f"G.{number}", "", ""]
    assert login["data"]["visitor_info"]["email"] == f"{name_of(number)}@example.com"
    assert [event["properties"]["order_id"] for event in (purchase, shipped)] == [order_id, order_id]
    assert [item["product_id"] for item in purchase["properties"]["items"]] == ["1", "2"]
    assert shipped["properties"]["state"] == "shipped"


def test_who_opted_out_is_not_tracked_and_still_served(shop: Shop) -> None:
    visit = Visit(shop.url, guest_uid="G.private")
    visit.get("/")
    visit.press("opt-out")
    assert visit.cookie("convead_track_disable") == "1"
    before = settled(shop)
    buy(visit, "privateperson")
    after = settled(shop)
    assert after.accepted == before.accepted
    assert [event["type"] for event in shop.received() if event["guest_uid"] == "G.private"] == ["link"]
    assert not [event for event in shop.received() if event["visitor_uid"] == "customer-privateperson"]


def test_a_browser_without_the_guests_cookie_or_with_a_broken_one_is_served(shop: Shop) -> None:
    before = settled(shop)
    Visit(shop.url).get("/p/1")
    Visit(shop.url, guest_uid="not a uid; at all").get("/p/1")
    assert settled(shop).accepted == before.accepted


def test_another_persons_order_is_not_shown(shop: Shop) -> None:
    mine = Visit(shop.url, guest_uid="G.mine")
    buy(mine, "owner")
    address = mine.url
    other = Visit(shop.url, guest_uid="G.other")
    other.get("/login")
    other.press("enter", name="stranger")
    with pytest.raises(OSError, match="404"):
        other.get(address)


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Serve a shop alone, without worker and tracker, on the Redis that is given."""
    start = runpy.run_path(str(REPOSITORY / "examples" / "start.py"), run_name="start")

    @contextmanager
    def serve(shop: str, redis_url: str) -> Iterator[str]:
        given = {"INSEND_REDIS_URL": redis_url, "INSEND_APP_KEY": "demo-key", "INSEND_DOMAIN": "shop.example.com"}
        environ = {**os.environ, **given, "SHOP_DATABASE": str(tmp_path / "shop.sqlite3")}
        environ["INSEND_ENQUEUE_TIMEOUT_MS"] = "30000"  # a slow machine must not decide
        with start["listen"]() as listener, (tmp_path / "output").open("wb") as log:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
            with start["server"](shop, environ, listener, log.fileno()) as process:
                assert start["answers"](address, lambda: process.poll() is not None), log.name
                yield address

    return serve


@pytest.mark.parametrize("name", SHOPS)
def test_with_redis_gone_every_page_still_answers_and_nothing_raises(name: str, serve: Serve, tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis", server="redis", config={"appendfsync": "everysec"}) as redis:
        with serve(name, redis.url) as address:
            redis.kill()
            buy(Visit(address, guest_uid="G.1"), "anna")
        said = (tmp_path / "output").read_text()
    assert "not kept" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", SHOPS)
def test_what_a_shop_sends_waits_in_redis_until_a_worker_comes(name: str, serve: Serve, tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis", server="redis", config={"appendfsync": "everysec"}) as redis:
        with serve(name, redis.url) as address:
            buy(Visit(address, guest_uid="G.1"), "anna")
        with connect(redis.url) as client:
            outbox = Outbox(client)
            lane = outbox.keys.lane(Lane("demo-key", "v", "customer-anna"))
            records = [decode(data) for data in outbox.read("LRANGE", lane, 0, -1)]
    assert len(records) == len(BOUGHT)
    assert [record.guest_uid for record in records] == ["G.1", "", ""]
