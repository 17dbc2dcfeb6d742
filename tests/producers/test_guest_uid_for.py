"""``guest_uid_for``: a stable guest for an order without a visitor, as by phone or behind an ad blocker."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.test import override_settings
from django_site import MIDDLEWARE
from flask import Flask
from flask_account import account

from insend_relay.outbox.keys import GUEST_UID
from insend_relay.outbox.record import Record
from insend_relay.producers import AsyncInSend, InSend, InvalidEvent
from insend_relay.producers.django import ainsend
from insend_relay.producers.django import insend as django_insend
from insend_relay.producers.flask import FlaskInSend

Kept = Callable[[str], list[Record]]
APP = "test-app-key"
NOWHERE: dict[str, Any] = {"domain": "shop.example.com", "redis_url": "redis://127.0.0.1:1/0"}


@pytest.fixture
def finsend() -> Iterator[FlaskInSend]:
    """The extension of two shops with an account each."""
    finsend = FlaskInSend()
    yield finsend
    finsend.close()


def shop(finsend: FlaskInSend, app_key: str) -> Flask:
    app = Flask(app_key)
    app.config.from_mapping(account("redis://127.0.0.1:1/0", "n", app_key))
    finsend.init_app(app)
    return app


def test_it_is_a_valid_guest_uid_and_the_same_each_time() -> None:
    uid = InSend(app_key=APP, **NOWHERE).guest_uid_for(5001)
    assert re.fullmatch(r"order-[0-9a-f]{32}", uid)
    assert GUEST_UID.match(uid)
    assert (
        uid
        == InSend(app_key=APP, **NOWHERE).guest_uid_for(5001)
        == AsyncInSend(app_key=APP, **NOWHERE).guest_uid_for(5001)
    )


def test_it_never_changes_since_a_later_release_has_to_find_the_order() -> None:
    assert InSend(app_key=APP, **NOWHERE).guest_uid_for("5001") == "order-c729b6225386f798bfed3c4fdb61188b"


def test_a_number_and_its_text_are_one_order_and_others_are_not() -> None:
    insend, key = InSend(app_key=APP, **NOWHERE), uuid.uuid4()
    assert insend.guest_uid_for(5001) == insend.guest_uid_for("5001")
    assert insend.guest_uid_for(key) == insend.guest_uid_for(str(key))
    assert len({insend.guest_uid_for(order) for order in (5001, 5002, "05001", "заказ-1", key)}) == 5


def test_two_accounts_have_different_guests_for_one_order_id() -> None:
    uids = {InSend(app_key=key, **NOWHERE).guest_uid_for(5001) for key in ("one", "two", "x" * 64)}
    assert len(uids) == 3


@pytest.mark.parametrize("order_id", [None, "", True, 5.5, Decimal(5), ["5001"]])
def test_what_is_no_order_id_is_refused(order_id: Any) -> None:
    with pytest.raises(InvalidEvent) as raised:
        InSend(app_key=APP, **NOWHERE).guest_uid_for(order_id)
    assert [path for path, _ in raised.value.faults] == ["order_id"]


def test_it_works_where_sending_is_switched_off() -> None:
    assert InSend(enabled=False).guest_uid_for(5001).startswith("order-")


def test_flask_finds_the_account_of_the_application(finsend: FlaskInSend) -> None:
    first, second = shop(finsend, "first"), shop(finsend, "second")
    found = []
    for app in (first, second):
        with app.app_context():
            found.append(finsend.guest_uid_for(5001))
    assert found == [InSend(app_key=key, **NOWHERE).guest_uid_for(5001) for key in ("first", "second")]


def test_django_finds_the_account_of_the_project() -> None:
    assert MIDDLEWARE
    expected = InSend(app_key=APP, **NOWHERE).guest_uid_for(5001)
    with override_settings(INSEND={"APP_KEY": APP, "DOMAIN": "shop.example.com"}):
        assert django_insend.guest_uid_for(5001) == expected
        assert django_insend.on_commit.guest_uid_for(5001) == expected
        assert ainsend.guest_uid_for(5001) == expected


def test_an_order_by_phone_and_its_update_wait_in_one_lane(insend: InSend, kept: Kept) -> None:
    guest = insend.guest_uid_for(5001)
    insend.purchase(order_id=5001, revenue=5, guest_uid=guest)
    insend.order_update(order_id="5001", state="shipped", guest_uid=insend.guest_uid_for("5001"))
    assert [json.loads(record.payload)["type"] for record in kept(f"g/{guest}")] == ["purchase", "order_update"]
