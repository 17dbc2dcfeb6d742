"""``insend.on_commit``: whatever is wrong with an event, a call outside debug does not undo the transaction."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from typing import Any

import django_site
import pytest
from counting import counted
from django.contrib.auth.models import User
from django.db import OperationalError, connection, connections, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext, setup_test_environment, teardown_test_environment
from django.urls import path
from django.utils.connection import ConnectionDoesNotExist

from insend_relay.outbox.errors import SettingsError
from insend_relay.outbox.record import Record
from insend_relay.outbox.store import Outbox
from insend_relay.producers import InvalidEvent
from insend_relay.producers.django import insend
from insend_relay.producers.testing import RecordedEvents

Kept = Callable[[str], list[Record]]


class Failed(Exception):
    """The view's own failure."""


@pytest.fixture(autouse=True)
def account(redis_url: str, namespace: str) -> Iterator[dict[str, Any]]:
    """An account of its own, in the settings, and a table of orders."""
    account = {
        "APP_KEY": "test-app-key",
        "DOMAIN": "shop.example.com",
        "REDIS_URL": redis_url,
        "NAMESPACE": namespace,
        "ENQUEUE_TIMEOUT_MS": 10_000,
    }
    with override_settings(INSEND=account):
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE orders (number INTEGER)")
        yield account
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE orders")
    connections.close_all()


def store_order(number: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO orders VALUES (%s)", [number])


def stored() -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT number FROM orders ORDER BY number")
        return [number for (number,) in cursor.fetchall()]


def bad(order_id: int) -> None:
    insend.on_commit("purchase", {"order_id": order_id}, {"email": "anna@example.com"}, visitor_uid=42)


# Bad events


@pytest.mark.parametrize("setting", ["auto", "bury"])
@pytest.mark.parametrize("durable", [False, True])
def test_a_bad_event_of_a_task_or_command_is_buried_and_the_order_is_stored(
    account: dict[str, Any], outbox: Outbox, caplog: pytest.LogCaptureFixture, setting: str, *, durable: bool
) -> None:
    with override_settings(INSEND={**account, "INVALID": setting}), transaction.atomic(durable=durable):
        store_order(1)
        bad(1)
        insend.on_commit("link", visitor_uid=42)
        assert counted(outbox) == {}
    assert stored() == [1]
    assert counted(outbox) == {"accepted": 2, "waiting": 1, "dead": 1}
    assert "properties.revenue" in caplog.text
    assert "anna" not in caplog.text


def test_a_transaction_that_is_rolled_back_leaves_no_letter(outbox: Outbox, caplog: pytest.LogCaptureFixture) -> None:
    with suppress(Failed), transaction.atomic():
        store_order(1)
        bad(1)
        raise Failed
    assert (stored(), counted(outbox), caplog.text) == ([], {}, "")


@pytest.mark.parametrize(
    ("setting", "debug", "raises"),
    [
        ("auto", "", False),
        ("auto", "DEBUG", True),
        ("auto", "test", True),
        ("raise", "", True),
        ("raise", "DEBUG", True),
        ("bury", "", False),
        ("bury", "DEBUG", False),
        ("bury", "test", False),
    ],
)
def test_a_bad_event_raises_in_debug_under_test_and_where_it_is_asked_for(
    account: dict[str, Any],
    setting: str,
    debug: str,
    raises: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    if debug == "test":
        setup_test_environment()
    try:
        with override_settings(INSEND={**account, "INVALID": setting}, DEBUG=debug == "DEBUG"):
            with pytest.raises(InvalidEvent, match="revenue") if raises else nullcontext(), transaction.atomic():
                store_order(1)
                bad(1)
            assert stored() == ([] if raises else [1])
    finally:
        if debug == "test":
            teardown_test_environment()


def test_a_recorded_test_sees_the_bad_event(insend_events: RecordedEvents) -> None:
    with pytest.raises(InvalidEvent), transaction.atomic():
        bad(1)
    assert insend_events.types == []


@pytest.mark.parametrize("debug", [False, True])
def test_an_event_about_no_one_is_an_error_in_debug_only(
    outbox: Outbox, caplog: pytest.LogCaptureFixture, *, debug: bool
) -> None:
    with override_settings(DEBUG=debug), pytest.raises(InvalidEvent) if debug else nullcontext(), transaction.atomic():
        store_order(1)
        insend.on_commit.order_update(order_id=1, state="paid", visitor_uid=None, guest_uid=None)
    assert stored() == ([] if debug else [1])
    assert counted(outbox) == ({} if debug else {"no_visitor": 1})
    assert ("leave the argument out" in caplog.text) is not debug


# Everything else that a call may meet inside ``atomic``


@pytest.mark.parametrize(
    "faulty", [{"APP_KEY": ""}, {"DOMAIN": "https://x"}, {"REDIS_URL": "nowhere"}, {"APP_KEYS": "k"}, {"POOL": "p"}]
)
@pytest.mark.parametrize("debug", [False, True])
def test_faulty_settings_are_logged_without_a_traceback_and_raised_in_debug(
    account: dict[str, Any], caplog: pytest.LogCaptureFixture, faulty: dict[str, str], *, debug: bool
) -> None:
    with (
        override_settings(INSEND={**account, **faulty}, DEBUG=debug),
        pytest.raises(SettingsError) if debug else nullcontext(),
        transaction.atomic(),
    ):
        store_order(1)
        insend.on_commit.purchase(order_id=1, revenue=5, visitor_uid=42)
    assert stored() == ([] if debug else [1])
    told = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [bool(record.exc_info) for record in told] == ([] if debug else [False])
    assert ("an event (purchase) of a transaction is not sent: INSEND" in caplog.text) is not debug


@pytest.mark.parametrize(("faulty", "order_id"), [({"APP_KEY": ""}, 1), ({}, None)])
@pytest.mark.parametrize("debug", [False, True])
def test_an_order_that_gets_no_guest_uid_is_stored(
    account: dict[str, Any], caplog: pytest.LogCaptureFixture, faulty: dict[str, str], order_id: Any, *, debug: bool
) -> None:
    with (
        override_settings(INSEND={**account, **faulty}, DEBUG=debug),
        pytest.raises((SettingsError, InvalidEvent)) if debug else nullcontext(),
        transaction.atomic(),
    ):
        store_order(1)
        assert insend.on_commit.guest_uid_for(order_id) == ""
    assert stored() == ([] if debug else [1])
    assert [bool(record.exc_info) for record in caplog.records] == ([] if debug else [False])


@pytest.mark.parametrize("debug", [False, True])
def test_a_key_that_was_used_for_another_event_raises_in_debug_and_undoes_nothing(
    outbox: Outbox, caplog: pytest.LogCaptureFixture, *, debug: bool
) -> None:
    raises = pytest.raises(InvalidEvent, match="used before") if debug else nullcontext()
    with override_settings(DEBUG=debug), raises, transaction.atomic():
        store_order(1)
        for revenue in (5, 6):
            insend.on_commit.purchase(order_id=1, revenue=revenue, visitor_uid=42, idempotency_key="k")
    assert stored() == [1]
    assert counted(outbox) == {"accepted": 1, "waiting": 1}
    assert [bool(record.exc_info) for record in caplog.records] == ([] if debug else [False])


@pytest.mark.parametrize("debug", [False, True])
def test_a_database_that_is_not_there_is_logged_and_raised_in_debug(
    caplog: pytest.LogCaptureFixture, *, debug: bool
) -> None:
    raises = pytest.raises(ConnectionDoesNotExist) if debug else nullcontext()
    with override_settings(DEBUG=debug), raises, transaction.atomic():
        store_order(1)
        insend.on_commit.using("nope").purchase(order_id=1, revenue=5, visitor_uid=42)
    assert stored() == ([] if debug else [1])
    assert ("an event (purchase) of a transaction is not sent" in caplog.text) is not debug


@pytest.mark.parametrize("type_", [None, 5, "", "<script>", ["purchase"]])
def test_an_event_without_a_usable_type_does_not_undo_the_order(outbox: Outbox, type_: Any) -> None:
    with transaction.atomic():
        store_order(1)
        insend.on_commit(type_, visitor_uid=42)
    assert stored() == [1]
    assert counted(outbox)["dead"] == 1


# The project's VISITOR_UID, which may ask a database


def uid_by_failing_save(_: HttpRequest) -> str:
    User.objects.create(pk=1)  # there is no such table
    raise AssertionError


def uid_by_failing_cursor(_: HttpRequest) -> str:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO orders VALUES (99)")
        cursor.execute("SELECT nothing FROM nowhere")
    raise AssertionError


def uid_that_raises(_: HttpRequest) -> str:
    raise LookupError


def uid_by_query(_: HttpRequest) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 42")
        return int(cursor.fetchone()[0])


def uid_by_two_queries(request: HttpRequest) -> int:
    return uid_by_query(request) and uid_by_query(request)


def uid_without_query(_: HttpRequest) -> int:
    return 42


def buy(_: HttpRequest) -> HttpResponse:
    with transaction.atomic():
        store_order(1)
        insend.on_commit.purchase(order_id=1, revenue=5)
        insend.link()
        store_order(2)
    return HttpResponse("bought")


urlpatterns = [path("buy", buy)]


@pytest.fixture
def browser() -> Iterator[Client]:
    """A guest's browser at the shop."""
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=django_site.MIDDLEWARE):
        browser = Client(headers={"host": "shop.example.com"})
        browser.cookies["convead_guest_uid"] = "g"
        yield browser


@pytest.mark.parametrize("fails", [uid_by_failing_save, uid_by_failing_cursor, uid_that_raises])
def test_a_failing_visitor_uid_leaves_the_transaction_as_it_was(
    browser: Client, account: dict[str, Any], kept: Kept, caplog: pytest.LogCaptureFixture, fails: Callable[..., str]
) -> None:
    with override_settings(INSEND={**account, "VISITOR_UID": fails}):
        assert browser.get("/buy").content == b"bought"
    assert stored() == [1, 2]
    assert len(kept("g/g")) == 2
    assert caplog.text.count("visitor_uid failed") == 2


@pytest.mark.parametrize(("asks", "savepoints"), [(uid_without_query, 0), (uid_by_query, 3), (uid_by_two_queries, 3)])
def test_only_a_visitor_uid_that_queries_costs_a_savepoint(
    browser: Client, account: dict[str, Any], kept: Kept, asks: Callable[..., int], savepoints: int
) -> None:
    with override_settings(INSEND={**account, "VISITOR_UID": asks}), CaptureQueriesContext(connection) as queries:
        browser.get("/buy")
    assert [query["sql"].split()[0] for query in queries].count(
        "SAVEPOINT"
    ) == savepoints  # one a call, and one of on_commit
    assert [query["sql"].split()[0] for query in queries].count("RELEASE") == savepoints
    assert stored() == [1, 2]
    assert len(kept("v/42")) == 2


def items_of_failing_save() -> Iterator[Any]:
    yield {"product_id": 1, "qnt": 1, "price": 5}
    User.objects.create(pk=1)  # there is no such table


def items_of_failing_cursor() -> Iterator[Any]:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO orders VALUES (99)")
        cursor.execute("SELECT nothing FROM nowhere")
    yield


@pytest.mark.parametrize("items", [items_of_failing_save, items_of_failing_cursor])
def test_items_whose_query_fails_leave_the_transaction_as_it_was(
    outbox: Outbox, caplog: pytest.LogCaptureFixture, items: Callable[[], Iterator[Any]]
) -> None:
    with transaction.atomic():
        store_order(1)
        insend.on_commit.purchase(order_id=1, revenue=5, items=items(), visitor_uid=42)
        store_order(2)
    assert stored() == [1, 2]
    assert counted(outbox) == {"accepted": 1, "dead": 1}
    assert "OperationalError" in caplog.text


def uid_that_does_without_its_query(request: HttpRequest) -> None:
    with suppress(OperationalError):
        uid_by_failing_cursor(request)


def test_a_visitor_uid_that_survives_its_failed_query_leaves_the_transaction_as_it_was(
    browser: Client, account: dict[str, Any], kept: Kept
) -> None:
    with override_settings(INSEND={**account, "VISITOR_UID": uid_that_does_without_its_query}):
        assert browser.get("/buy").content == b"bought"
    assert stored() == [1, 2]
    assert len(kept("g/g")) == 2


def test_outside_a_transaction_a_visitor_uid_is_asked_without_a_savepoint(
    browser: Client, account: dict[str, Any], kept: Kept
) -> None:
    with (
        override_settings(INSEND={**account, "VISITOR_UID": uid_by_query}),
        CaptureQueriesContext(connection) as queries,
    ):
        browser.get("/buy?")
        insend.link(visitor_uid=42)
    assert stored() == [1, 2]
    assert len(kept("v/42")) == 3
    with suppress(OperationalError), transaction.atomic():
        uid_by_failing_cursor(HttpRequest())
    assert stored() == [1, 2]  # so that the savepoint above means something
    assert queries
