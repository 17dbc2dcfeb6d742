"""``insend.on_commit``: what commits is sent, what is rolled back is not, and nothing breaks a committed request."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client, TestCase, override_settings
from django.urls import path
from django_site import MIDDLEWARE

from insend_relay.outbox.record import Record
from insend_relay.outbox.store import Outbox
from insend_relay.producers.django import insend
from insend_relay.producers.testing import RecordedEvents, recording

Kept = Callable[[str], list[Record]]
NOWHERE = "redis://127.0.0.1:1/0"  # nothing listens there


class Failed(Exception):
    """The view's own failure."""


@pytest.fixture(autouse=True)
def account(redis_url: str, namespace: str) -> Iterator[dict[str, Any]]:
    """An account of its own, in the settings."""
    account = {
        "APP_KEY": "test-app-key",
        "DOMAIN": "shop.example.com",
        "REDIS_URL": redis_url,
        "NAMESPACE": namespace,
        "ENQUEUE_TIMEOUT_MS": 10_000,
    }
    with override_settings(INSEND=account):
        yield account
    connections.close_all()


@pytest.fixture
def orders(kept: Kept) -> Callable[[], list[str]]:
    """The order ids of visitor 42's purchases that are kept."""

    def read() -> list[str]:
        return [json.loads(record.payload)["properties"]["order_id"] for record in kept("v/42")]

    return read


@contextmanager
def rolled_back() -> Iterator[None]:
    """A transaction that fails at its end."""
    with suppress(Failed), transaction.atomic():
        yield
        raise Failed


def purchase(order_id: int) -> None:
    insend.on_commit.purchase(order_id=order_id, revenue=5, visitor_uid=42)


def test_it_is_sent_when_the_transaction_commits_and_not_before(orders: Callable[[], list[str]]) -> None:
    with transaction.atomic():
        purchase(1)
        insend.on_commit("purchase", {"order_id": 2, "revenue": 5}, {"first_name": "Anna"}, visitor_uid=42)
        assert orders() == []
    assert orders() == ["1", "2"]


def test_a_rolled_back_transaction_sends_nothing(orders: Callable[[], list[str]]) -> None:
    with rolled_back():
        purchase(1)
    assert orders() == []


def test_of_nested_blocks_only_what_was_rolled_back_is_not_sent(orders: Callable[[], list[str]]) -> None:
    with transaction.atomic():
        purchase(1)
        with rolled_back():
            purchase(2)
        with transaction.atomic():
            purchase(3)
        assert orders() == []
    assert orders() == ["1", "3"]


def test_outside_a_transaction_it_is_sent_at_once(orders: Callable[[], list[str]]) -> None:
    purchase(1)
    assert orders() == ["1"]


def test_it_may_wait_for_the_transaction_of_another_database(orders: Callable[[], list[str]]) -> None:
    with transaction.atomic(using="other"):
        insend.on_commit.using("other").purchase(order_id=1, revenue=5, visitor_uid=42)
        purchase(2)  # the default database has no transaction
        assert orders() == ["2"]
    assert orders() == ["2", "1"]


def test_it_is_sent_as_it_was_at_the_call(kept: Kept) -> None:
    items = [{"product_id": 1, "qnt": 1, "price": 5}]
    with transaction.atomic():
        with insend.visitor(visitor_uid=42, url="https://shop.example.com/buy"):
            insend.on_commit("update_cart", {"items": items})
        items.clear()
    (event,) = [json.loads(record.payload) for record in kept("v/42")]
    assert event["url"] == "https://shop.example.com/buy"
    assert len(event["properties"]["items"]) == 1


def test_with_redis_away_the_request_is_committed_and_other_hooks_run(
    account: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[str] = []
    with override_settings(INSEND={**account, "REDIS_URL": NOWHERE}):
        with transaction.atomic():
            transaction.on_commit(lambda: ran.append("before"))
            insend.on_commit("link", {}, {"email": "anna@example.com"}, visitor_uid=42)
            transaction.on_commit(lambda: ran.append("after"))
        assert ran == ["before", "after"]
        insend.on_commit("link", visitor_uid=42)  # nor outside a transaction
    told = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == 2
    assert "(link)" in told[0].getMessage()
    assert "the event was not kept" in told[0].getMessage()
    assert not {"anna", "42"} & set(caplog.text.replace("@", " ").split())


def test_where_sending_is_switched_off_nothing_is_sent(account: dict[str, Any], outbox: Outbox) -> None:
    with override_settings(INSEND={**account, "ENABLED": False}), transaction.atomic():
        purchase(1)
    assert outbox.read("HGET", outbox.keys.ledger, "accepted") is None


# In a request


def buy(request: HttpRequest) -> HttpResponse:
    """Two purchases and an event beside them; the whole view is one transaction (ATOMIC_REQUESTS)."""
    purchases = insend.on_commit
    purchases.purchase(order_id=1, revenue=5)
    if "twice" in request.GET:
        purchases.purchase(order_id=2, revenue=5)
    if "link" in request.GET:
        insend.link()
    if "fail" in request.GET:
        raise Failed
    return HttpResponse("bought")


def customer(request: HttpRequest) -> Any:
    return request.headers.get("x-customer")


urlpatterns = [path("buy", buy)]


@pytest.fixture
def site(account: dict[str, Any]) -> Iterator[Client]:
    """A browser of customer 42, at a site that wraps each view in a transaction."""
    ours = {**account, "VISITOR_UID": customer}
    with override_settings(INSEND=ours, ROOT_URLCONF=__name__, MIDDLEWARE=MIDDLEWARE):
        connections["default"].settings_dict["ATOMIC_REQUESTS"] = True
        browser = Client(headers={"host": "shop.example.com", "x-customer": "42"}, raise_request_exception=False)
        browser.cookies["convead_guest_uid"] = "Guest.1"
        yield browser
    connections["default"].settings_dict["ATOMIC_REQUESTS"] = False


def both(kept: Kept) -> list[tuple[str, str | None]]:
    """The types of visitor 42's events, and the guest whom each names."""
    found = [json.loads(record.payload) for record in kept("v/42")]
    return [(event["type"], event.get("guest_uid")) for event in found]


def test_a_view_that_fails_sends_what_did_not_wait_and_no_more(site: Client, kept: Kept) -> None:
    assert site.get("/buy?link&fail").status_code == 500
    assert both(kept) == [("link", "Guest.1")]


def test_both_uids_go_out_once_however_many_events_wait(site: Client, kept: Kept) -> None:
    answer = site.get("/buy?twice")
    assert both(kept) == [("purchase", "Guest.1"), ("purchase", None)]
    assert "insend_known" in answer.cookies
    site.get("/buy")
    assert both(kept)[2:] == [("purchase", None)]


def test_an_event_that_overtakes_those_that_wait_carries_both_uids(site: Client, kept: Kept) -> None:
    site.get("/buy?twice&link")
    assert both(kept) == [("link", "Guest.1"), ("purchase", None), ("purchase", None)]


def test_after_a_rollback_the_next_event_still_carries_both_uids(site: Client, kept: Kept) -> None:
    answer = site.get("/buy?twice&fail")
    assert "insend_known" not in answer.cookies
    site.get("/buy")
    assert both(kept) == [("purchase", "Guest.1")]


def test_who_opted_out_sends_nothing_at_the_commit_either(site: Client, outbox: Outbox) -> None:
    site.cookies["convead_track_disable"] = "1"
    site.get("/buy?twice")
    assert outbox.read("HGET", outbox.keys.ledger, "accepted") is None
    assert outbox.read("HGET", outbox.keys.ledger, "opted_out") == b"2"


# In a project's own tests


def test_the_recorder_sees_what_was_committed(insend_events: RecordedEvents) -> None:
    with transaction.atomic():
        purchase(1)
        assert insend_events.types == []
    assert insend_events.types == ["purchase"]
    assert insend_events.sent[0].properties["order_id"] == "1"


def test_djangos_own_test_case_captures_it() -> None:
    with recording() as events, transaction.atomic():
        purchase(1)
        with TestCase.captureOnCommitCallbacks(execute=True):
            purchase(2)
        assert [event.properties["order_id"] for event in events] == ["2"]
