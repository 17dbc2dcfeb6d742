"""What a call returns, raises, keeps and tells."""

from __future__ import annotations

import json
import logging
import math
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from counting import counted

from insend_relay.operations.dead import DeadLetters
from insend_relay.outbox.errors import SettingsError
from insend_relay.outbox.record import Record
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.producers import InSend, InvalidEvent, NotAccepted

Kept = Callable[[str], list[Record]]
NOWHERE = "redis://127.0.0.1:1/0"  # nothing listens there
ACCOUNT: dict[str, Any] = {"app_key": "test-app-key", "domain": "shop.example.com", "enqueue_timeout_ms": 10_000}


def test_a_receipt_names_the_event_that_is_kept(insend: InSend, kept: Kept) -> None:
    receipt = insend.mailto(email="a@example.com", visitor_uid=42)
    (record,) = kept("v/42")
    assert receipt.where == "redis"
    assert receipt.id.bytes == record.id
    assert receipt.id.version == 7


def test_events_wait_in_the_lane_of_their_visitor_in_the_order_of_the_calls(insend: InSend, kept: Kept) -> None:
    for number in range(5):
        insend.link(key_page_id=number, visitor_uid="anna-1")
        insend.link(key_page_id=number, guest_uid="Guest.1")
    pages = [json.loads(record.payload)["properties"]["key_page_id"] for record in kept("v/anna-1")]
    assert pages == [0, 1, 2, 3, 4]
    assert len(kept("g/Guest.1")) == 5


def test_an_event_with_both_uids_waits_with_the_visitor_and_names_the_guest(insend: InSend, kept: Kept) -> None:
    insend.update_info(visitor_info={"phone": "5"}, visitor_uid="42", guest_uid="Guest.1")
    (record,) = kept("v/42")
    assert record.guest_uid == "Guest.1"
    assert kept("g/Guest.1") == []


def test_a_guest_alone_is_no_login(insend: InSend, kept: Kept) -> None:
    insend.link(guest_uid="Guest.1")
    assert kept("g/Guest.1")[0].guest_uid == ""


def test_an_idempotency_key_makes_a_double_submit_harmless(insend: InSend, kept: Kept) -> None:
    first = insend.purchase(order_id=1, revenue=5, visitor_uid="42", idempotency_key="order 1")
    second = insend.purchase(order_id=1, revenue=5, visitor_uid="42", idempotency_key="order 1")
    assert (second.where, second.id) == ("duplicate", first.id)
    assert len(kept("v/42")) == 1


def test_without_any_uid_nothing_is_kept_but_a_count(insend: InSend, outbox: Outbox) -> None:
    receipt = insend.link(visitor_uid="", guest_uid=None)
    assert receipt.where == "no_visitor"
    assert counted(outbox) == {"no_visitor": 1}


def test_without_any_uid_a_call_goes_on_even_when_redis_is_away() -> None:
    with InSend(**ACCOUNT, redis_url=NOWHERE) as insend:
        assert insend.link().where == "no_visitor"


def test_switched_off_a_call_validates_and_keeps_nothing(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings.from_env({"INSEND_ENABLED": "0", "INSEND_REDIS_URL": NOWHERE})
    with InSend(settings=settings) as insend:
        assert insend.link(visitor_uid="42").where == "disabled"
        with pytest.raises(InvalidEvent):
            insend.mailto(email="", visitor_uid="42")
    with InSend(settings=settings, invalid="bury") as insend:
        assert insend.mailto(email="", visitor_uid="42").where == "invalid"
    assert "properties.email" in caplog.text


def test_an_invalid_event_is_raised_and_leaves_nothing(insend: InSend, outbox: Outbox) -> None:
    with pytest.raises(InvalidEvent) as raised:
        insend.purchase(order_id="1", revenue=1, items=[{"product_id": 1, "price": 2}], visitor_uid="42")  # type: ignore[typeddict-item]
    assert raised.value.faults == (("properties.items[0].qnt", "missing"),)
    assert str(raised.value) == "properties.items[0].qnt: missing"
    assert counted(outbox) == {}


def test_a_buried_invalid_event_is_a_dead_letter_and_a_log_line_without_personal_data(
    redis_url: str, namespace: str, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    given: dict[str, Any] = {"redis_url": redis_url, "namespace": namespace, "invalid": "bury"}
    with InSend(**ACCOUNT, **given) as insend, caplog.at_level(logging.DEBUG):
        receipt = insend.event(
            "purchase",
            {"order_id": "1", "revenue": math.nan, "name": "Анна", 5: object()},  # type: ignore[dict-item]
            {"email": "anna@example.com", "note": "half \ud800"},
            visitor_uid="42",
        )
    assert receipt.where == "invalid"
    assert counted(outbox) == {"accepted": 1, "dead": 1}
    (line,) = (record.getMessage() for record in caplog.records if record.name == "insend_relay.producers")
    assert str(receipt.id) in line
    assert "purchase" in line
    assert "properties.revenue: must be a finite number" in line
    assert "properties.<key 4>" in line
    assert "anna" not in line.lower()
    assert "Анна" not in line

    (letter,) = DeadLetters(outbox).scan()
    stored = letter.payload
    assert '"name":"Анна"'.encode() in stored
    assert '"revenue":"nan"' in stored.decode(errors="replace")
    assert '"5":"<object object at' in stored.decode(errors="replace")
    assert '"note":"half ?"' in stored.decode(errors="replace")


@pytest.mark.parametrize(
    ("event_type", "properties", "about"),
    [
        ("no such type!", None, {}),
        (None, None, {"visitor_uid": "NOT VALID", "guest_uid": 5}),
        ("purchase", [1, 2], {"guest_uid": "g"}),
        ("custom", {"key": "k", "a": "я" * 100_000}, {"visitor_uid": 1}),
        ("custom", {"key": "k", **{str(n): "long " * 30 for n in range(2000)}}, {"visitor_uid": 1}),
    ],
)
def test_whatever_is_wrong_with_an_event_it_can_be_buried(
    redis_url: str, namespace: str, outbox: Outbox, event_type: Any, properties: Any, about: dict[str, Any]
) -> None:
    given: dict[str, Any] = {"redis_url": redis_url, "namespace": namespace, "invalid": "bury"}
    with InSend(**ACCOUNT, **given) as insend:
        assert insend.event(event_type, properties, **about).where == "invalid"
    assert counted(outbox) == {"accepted": 1, "dead": 1}
    ((_, stored),) = dict(outbox.read("HGETALL", outbox.keys.dead)).items()
    assert len(stored) < 140_000


def test_what_contains_itself_can_be_buried_too(redis_url: str, namespace: str, outbox: Outbox) -> None:
    loop: dict[str, Any] = {"key": "k"}
    loop["again"] = [loop] * 10
    endless: Any = []
    for _ in range(25):
        endless = [endless] * 10
    with InSend(**ACCOUNT, redis_url=redis_url, namespace=namespace, invalid="bury") as insend:
        assert insend.event("custom", loop, visitor_uid=1).where == "invalid"
        assert insend.event("custom", {"key": "k", "a": endless}, visitor_uid=1).where == "invalid"
    assert counted(outbox) == {"accepted": 2, "dead": 2}


def test_an_invalid_event_that_cannot_be_buried_is_not_accepted() -> None:
    with InSend(**ACCOUNT, redis_url=NOWHERE, invalid="bury") as insend, pytest.raises(NotAccepted):
        insend.mailto(email="", visitor_uid="42")


def test_the_javascript_call_knows_only_events(insend: InSend, kept: Kept) -> None:
    receipt = insend("event", "mailto", {"email": "a@example.com"}, {}, visitor_uid="42")
    assert receipt.id.bytes == kept("v/42")[0].id
    with pytest.raises(InvalidEvent, match="command"):
        insend("identify", "mailto", {})


@pytest.mark.parametrize("call", [("identify", "mailto", {}), ("event", "mailto", {"email": "a@example.com"}, {}, {})])
def test_a_javascript_call_of_another_form_is_a_bad_event_as_any_other(
    redis_url: str, namespace: str, call: tuple[Any, ...], outbox: Outbox
) -> None:
    with InSend(**ACCOUNT, redis_url=redis_url, namespace=namespace, invalid="bury") as insend:
        assert insend(*call).where == "invalid"
    with InSend(**ACCOUNT, redis_url=redis_url) as insend, pytest.raises(InvalidEvent, match=r'insend\("event", TYPE'):
        insend(*call)
    assert counted(outbox) == {"accepted": 1, "dead": 1}


def test_the_javascript_call_without_properties_is_an_event_without_any(insend: InSend, kept: Kept) -> None:
    insend("event", "link", visitor_uid="42")
    assert json.loads(kept("v/42")[0].payload)["properties"] == {}


def test_a_custom_event_takes_further_properties(insend: InSend, kept: Kept) -> None:
    insend.custom(key="callback", properties={"hour": 9, "key": "ignored"}, visitor_uid="42")
    assert json.loads(kept("v/42")[0].payload)["properties"] == {"key": "callback", "hour": 9}
    with pytest.raises(InvalidEvent, match="properties: must be an object, not list"):
        insend.custom(key="callback", properties=[1], visitor_uid="42")  # type: ignore[arg-type]


def test_the_domain_is_written_in_small_letters_and_an_idn_as_it_is(redis_url: str, namespace: str, kept: Kept) -> None:
    given: dict[str, Any] = {"redis_url": redis_url, "namespace": namespace}
    with InSend(app_key="test-app-key", domain="Магазин.Example", enqueue_timeout_ms=10_000, **given) as insend:
        insend.link(visitor_uid="42")
    data = json.loads(kept("v/42")[0].payload)
    assert (data["domain"], data["host"]) == ("магазин.example", "магазин.example")


@pytest.mark.parametrize(
    ("account", "variables"),
    [
        ({}, ["INSEND_APP_KEY", "INSEND_DOMAIN"]),
        ({"app_key": "k"}, ["INSEND_DOMAIN"]),
        ({"domain": "shop.example.com"}, ["INSEND_APP_KEY"]),
        ({"app_key": "k k", "domain": "https://shop.example.com"}, ["INSEND_APP_KEY", "INSEND_DOMAIN"]),
        ({**ACCOUNT, "domain": "xn--80aaxitdbjk.example"}, ["INSEND_DOMAIN"]),
        ({**ACCOUNT, "redis_url": "http://127.0.0.1"}, ["INSEND_REDIS_URL"]),
        ({**ACCOUNT, "redis_url": "redis://:se/cret@127.0.0.1"}, ["INSEND_REDIS_URL"]),
        ({**ACCOUNT, "redis_url": "redis://127.0.0.1?socket_timeout=x"}, ["INSEND_REDIS_URL"]),
        ({**ACCOUNT, "redis_url": "redis://127.0.0.1?no_such_option=1"}, ["INSEND_REDIS_URL"]),
    ],
)
def test_a_missing_or_wrong_setting_says_which_variable_to_set(account: dict[str, Any], variables: list[str]) -> None:
    with pytest.raises(SettingsError) as raised:
        InSend(**account)
    assert [fault.split()[0].rstrip(":") for fault in raised.value.faults] == variables
    assert "cret" not in str(raised.value)


def test_settings_come_from_the_environment_and_single_ones_override_them(namespace: str) -> None:
    environ = {"INSEND_APP_KEY": "k", "INSEND_DOMAIN": "shop.example.com", "INSEND_NAMESPACE": namespace}
    with InSend.from_env(environ) as insend:
        assert insend.settings.namespace == namespace
        with InSend(settings=insend.settings, domain="other.example.com") as other:
            assert (other.settings.domain, other.settings.app_key) == ("other.example.com", "k")


def test_repr_and_errors_show_neither_app_key_nor_password() -> None:
    with InSend(app_key="geheim", domain="shop.example.com", redis_url="redis://:geheim@127.0.0.1:1/0") as insend:
        assert repr(insend) == "InSend(domain='shop.example.com', redis='127.0.0.1:1')"
        with pytest.raises(NotAccepted) as raised:
            insend.link(visitor_uid="42")
    assert "geheim" not in f"{raised.value!r} {raised.value.__cause__!r} {insend.settings!r}"


def test_after_close_nothing_is_accepted(insend: InSend) -> None:
    insend.link(visitor_uid="42")
    insend.close()
    with pytest.raises(NotAccepted, match="closed"):
        insend.link(visitor_uid="42")


def test_every_receipt_has_an_id_of_its_own(insend: InSend) -> None:
    ids = [insend.link(visitor_uid="42").id for _ in range(50)]
    assert len(set(ids)) == 50
    assert all(isinstance(id_, uuid.UUID) for id_ in ids)
