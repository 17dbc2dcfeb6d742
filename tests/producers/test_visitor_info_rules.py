"""visitor_info: only ERASE erases a field; fields of the account; dates as ISO."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import pytest

from insend_relay.producers import ERASE, InvalidEvent
from insend_relay.producers.validation import Event, Validator
from insend_relay.producers.visitor import Visitor

VALIDATOR = Validator("key", "shop.example.com")


def sent(info: Any) -> Any:
    event = Event("link", None, info, None, Visitor())
    return json.loads(VALIDATOR.check(event).payload).get("visitor_info")


def test_what_the_tracker_knows_goes_through() -> None:
    info = {
        "first_name": "Анна",
        "last_name": "Smith",
        "full_name": "Анна Smith",
        "email": "anna@example.com",
        "phone": "555555",
        "date_of_birth": "1990-02-28",
        "gender": "female",
        "language": "ru",
    }
    assert sent(info) == info


def test_custom_fields_are_numbers_strings_booleans_and_dates() -> None:
    moscow = dt.timezone(dt.timedelta(hours=3))
    info = {
        "points": 12,
        "rate": Decimal("0.50"),
        "club": True,
        "card": "gold",
        "since": dt.date(2024, 2, 29),
        "seen": dt.datetime(2024, 2, 29, 12, 30, tzinfo=moscow),
        "date_of_birth": dt.date(1990, 2, 28),
    }
    assert sent(info) == {
        "points": 12,
        "rate": 0.5,
        "club": True,
        "card": "gold",
        "since": "2024-02-29",
        "seen": "2024-02-29T12:30:00+03:00",
        "date_of_birth": "1990-02-28",
    }


def test_none_is_left_out_for_it_must_not_erase() -> None:
    assert sent({"email": None, "points": None, "phone": "5"}) == {"phone": "5"}
    assert sent({"email": None}) is None


def test_erase_erases() -> None:
    fields = ("phone", "date_of_birth", "gender", "points")
    assert sent(dict.fromkeys(fields, ERASE)) == dict.fromkeys(fields, "")
    assert repr(ERASE) == "ERASE"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("first_name", 5),
        ("phone", 555555),
        ("gender", "Male"),
        ("gender", []),
        ("date_of_birth", "28.02.1990"),
        ("date_of_birth", "1990-02-30"),
        ("date_of_birth", "19900228"),
        ("date_of_birth", "1990-02-28\n"),
        ("date_of_birth", 1990),
        ("date_of_birth", dt.datetime(1990, 2, 28, tzinfo=dt.UTC)),
        ("points", float("nan")),
        ("points", [1]),
        ("points", {"a": 1}),
        ("points", b"bytes"),
    ],
)
def test_a_wrong_field_is_refused_by_its_path(name: str, value: Any) -> None:
    with pytest.raises(InvalidEvent) as raised:
        sent({name: value, "language": "ru"})
    assert [path for path, _ in raised.value.faults] == [f"visitor_info.{name}"]
