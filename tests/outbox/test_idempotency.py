"""What an idempotency key is compared with: app, type and order, never the visitor; against a real Redis."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.utils.functional import lazy
from lanes import ledger
from werkzeug.local import LocalProxy

from insend_relay.outbox.idempotency import content_digest, identity
from insend_relay.outbox.record import decode
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.producers import InSend, InvalidEvent
from insend_relay.producers.events import Item
from insend_relay.producers.request import Request, serving
from insend_relay.producers.testing import recording

HUGE = b'{"properties":{"a":1e999999999999}}'
ORDER: dict[str, Any] = {"order_id": 5001, "revenue": 10, "visitor_uid": "42", "idempotency_key": "k"}
Producer = Callable[..., InSend]


@pytest.fixture
def producer(redis_url: str, namespace: str) -> Iterator[Producer]:
    made: list[InSend] = []

    def make(app_key: str = "shop", **more: Any) -> InSend:
        settings = {"domain": "shop.example.com", "redis_url": redis_url, "namespace": namespace, **more}
        made.append(InSend(app_key=app_key, **settings))
        return made[-1]

    yield make
    for insend in made:
        insend.close()


def request(*, debug: bool) -> Request:
    return Request(settings=Settings(), cookies={}, visitor_uid=lambda: "42", debug=debug)


def test_an_orders_purchase_and_its_status_change_are_two_events(producer: Producer, outbox: Outbox) -> None:
    insend = producer()
    assert insend.purchase(**ORDER).where == "redis"
    update = insend.order_update(order_id=5001, state="paid", visitor_uid="42", idempotency_key="k")
    assert update.where == "redis"
    assert ledger(outbox, "accepted") == [2]


@pytest.mark.parametrize("kind", [uuid.UUID, lambda text: LocalProxy(lambda: text), lazy(str, str)])
def test_a_key_of_another_type_is_its_text(producer: Producer, outbox: Outbox, kind: Callable[[str], Any]) -> None:
    text = "0192f0c1-7a3b-7c44-8d2e-0f5a6b7c8d9e"
    insend = producer()
    assert insend.purchase(**{**ORDER, "idempotency_key": kind(text)}).where == "redis"
    assert insend.purchase(**{**ORDER, "idempotency_key": text}).where == "duplicate"
    assert ledger(outbox, "accepted") == [1]


def test_two_orders_under_one_key_are_both_kept(producer: Producer) -> None:
    insend = producer()
    assert [insend.purchase(**{**ORDER, "order_id": number}).where for number in (1, 2)] == ["redis", "redis"]


def test_an_order_of_a_guest_who_becomes_a_customer_is_one_order(
    producer: Producer, caplog: pytest.LogCaptureFixture
) -> None:
    insend = producer()
    guest = {**ORDER, "visitor_uid": "", "guest_uid": "g1", "url": "https://shop.example.com/checkout"}
    first = insend.purchase(**guest)
    again = insend.purchase(**{**ORDER, "order_id": "5001", "revenue": Decimal("10.00"), "guest_uid": "g1"})
    assert (again.where, again.id) == ("duplicate", first.id)
    assert caplog.messages == []


def test_two_apps_of_one_relay_do_not_share_a_key(producer: Producer) -> None:
    assert [producer(app).purchase(**ORDER).where for app in ("shop", "other")] == ["redis", "redis"]


def test_another_event_under_the_same_key_is_a_duplicate_and_an_error_in_the_log_without_a_value(
    producer: Producer, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    insend = producer()
    first = insend.purchase(**ORDER)
    with serving(request(debug=False)):
        second = insend.purchase(**{**ORDER, "revenue": 98765})
    assert (second.where, second.id) == ("duplicate", first.id)
    (entry,) = caplog.records
    assert entry.levelno == logging.ERROR
    assert str(first.id) in entry.getMessage()
    assert "98765" not in entry.getMessage()
    assert ledger(outbox, "accepted") == [1]


def test_in_debug_another_event_under_the_same_key_raises(producer: Producer) -> None:
    insend = producer()
    insend.purchase(**ORDER)
    with serving(request(debug=True)), pytest.raises(InvalidEvent, match="one key for one event"):
        insend.purchase(**{**ORDER, "revenue": 11})
    with serving(request(debug=True)):
        assert producer(invalid="bury").purchase(**{**ORDER, "revenue": 11}).where == "duplicate"


def test_a_recording_compares_as_redis_does(producer: Producer) -> None:
    insend = producer()
    with recording() as events:
        assert insend.purchase(**ORDER).where == "redis"
        assert insend.order_update(order_id=5001, state="paid", visitor_uid=1, idempotency_key="k").where == "redis"
        assert insend.purchase(**{**ORDER, "order_id": 5002}).where == "redis"
        assert insend.purchase(**{**ORDER, "visitor_uid": "43"}).where == "duplicate"
        with pytest.raises(InvalidEvent, match="idempotency_key"):
            insend.purchase(**{**ORDER, "revenue": 11})
    assert events.types == ["purchase", "order_update", "purchase"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": [{"c": 99.9}]}, {"b": [{"c": Decimal("99.90")}], "a": 1.0}),
        ({"a": 100, "b": 0}, {"a": Decimal("1E2"), "b": -0.0}),
        ({}, {}),
    ],
)
def test_properties_are_compared_by_their_meaning(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert content_digest(payload(one)) == content_digest(payload(other))


@pytest.mark.parametrize(
    "other", [{"a": "1"}, {"a": 2}, {"b": 1}, {"a": [1]}, {"a": "number 1e0"}, {"a": 10}, {"a": -1}, {"a": None}, {}]
)
def test_properties_of_another_meaning_differ(other: dict[str, Any]) -> None:
    assert content_digest(payload({"a": 1})) != content_digest(payload(other))


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b"\xff", b"null", b'{"properties":[]}', b"[" * 10_000, b"1e999999999999"]
)
def test_a_payload_that_is_no_event_has_a_key_and_a_digest_too(data: bytes) -> None:
    found = identity("k", data)
    assert (len(found.key), found.digest) == (32, content_digest(data))
    assert len(found.digest) == 8


def payload(properties: dict[str, Any]) -> bytes:
    return json.dumps({"type": "custom", "properties": properties}, default=float).encode()


def test_the_digest_is_of_the_plain_payload_however_it_is_stored(producer: Producer, outbox: Outbox) -> None:
    insend = producer()
    items: list[Item] = [{"product_id": number, "qnt": 1, "price": 10} for number in range(50)]
    insend.purchase(**ORDER, items=items)
    (lane,) = outbox.read("ZRANGE", outbox.keys.due("shop"), 0, -1)
    stored = outbox.read("LINDEX", outbox.keys.lane(lane.decode()), 0)
    payload = decode(stored).payload
    assert len(stored) < len(payload), "it is compressed"
    (once,) = outbox.read("KEYS", outbox.keys.prefix + "once:*")
    assert outbox.read("GET", once)[16:] == content_digest(payload)
    assert insend.purchase(**ORDER, items=items).where == "duplicate"
