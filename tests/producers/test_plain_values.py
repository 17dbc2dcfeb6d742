"""Values of other types than JSON has: one obvious meaning is sent, anything else is refused and kept as text."""

from __future__ import annotations

import collections
import datetime as dt
import enum
import fractions
import io
import itertools
import json
import math
import numbers
import unittest.mock
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import django_site  # noqa: F401 - configures Django
import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connection, connections
from django.db.models import F, Value
from django.utils.functional import SimpleLazyObject, lazy
from django.utils.translation import gettext_lazy
from markupsafe import Markup
from werkzeug.local import LocalProxy

from insend_relay.operations.dead import DeadLetters
from insend_relay.outbox.store import Outbox
from insend_relay.producers import NOT_GIVEN, InSend
from insend_relay.producers.plain_values import MAX_ITEMS
from insend_relay.producers.salvage import MAX_LETTER_BYTES, salvage
from insend_relay.producers.validation import Checked, Event, Examined, Faulty, Validator
from insend_relay.producers.visitor import Visitor

UUID = uuid.UUID("0192f0c1-7a3b-7c44-8d2e-0f5a6b7c8d9e")
ITEM = {"product_id": "1", "qnt": 1, "price": 9.5}


class Size(enum.StrEnum):
    BIG = "big"


class State(str, enum.Enum):  # noqa: UP042 - as Django's TextChoices were
    PAID = "paid"

    def __str__(self) -> str:
        return "Paid in full"


class Points(enum.IntEnum):
    MANY = 100


class Price(enum.Enum):
    FULL = Decimal("9.50")


class Pair(enum.Enum):
    ONE = (1, 2)


class Label(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "another text"


class NumpyInteger:
    """As numpy's and others' integers: no int, but an ``__index__``."""

    def __index__(self) -> int:
        return 7


class Float32:
    """As numpy.float32, which is no float: ``float()`` of it has digits that its text does not."""

    def __float__(self) -> float:
        return 9.989999771118164

    def __str__(self) -> str:
        return "9.99"


numbers.Real.register(Float32)


class Array:
    """As a numpy array or a query: ordered, with a length and an index, of no type that this package knows."""

    def __init__(self, *items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __getitem__(self, place: Any) -> Any:
        return self.items[place]


class Table(Array):
    """As a pandas.DataFrame, which iterates over the names of its columns."""

    def keys(self) -> list[str]:
        return ["column"]


class Broken:
    """As an object whose database is away."""

    def __str__(self) -> str:
        raise RuntimeError("secret")


class NotATime(dt.datetime):
    """As pandas.NaT."""

    def isoformat(self, *_: Any) -> str:
        return "NaT"


def examine(value: Any) -> Examined:
    validator = Validator("key", "shop.example.com")
    return validator.examine(Event("custom", {"key": "k", "v": value}, None, None, Visitor("42")))


def sent(type_: str, properties: Any = None, info: Any = None, attributes: Any = None, **about: Any) -> Any:
    event = Event(type_, properties, info, attributes, Visitor(**about))
    return json.loads(Validator("key", "shop.example.com").check(event).payload, parse_float=Decimal)


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (UUID, str(UUID)),
        (gettext_lazy("Boots"), "Boots"),
        (lazy(lambda: 5, int)(), 5),
        (SimpleLazyObject(lambda: "lazy"), "lazy"),
        (SimpleLazyObject(lambda: 5), 5),
        (SimpleLazyObject(lambda: 1.5), Decimal("1.5")),
        (SimpleLazyObject(lambda: {"a": UUID}), {"a": str(UUID)}),
        (SimpleLazyObject(lambda: None), None),
        (LocalProxy(lambda: "proxied"), "proxied"),
        (Markup("<b>"), "<b>"),
        (collections.UserString("text"), "text"),
        (Label("its text"), "its text"),
        (Size.BIG, "big"),
        (State.PAID, "paid"),
        (Points.MANY, 100),
        (Price.FULL, Decimal("9.50")),
        (NumpyInteger(), 7),
        (Float32(), Decimal("9.99")),
        (collections.deque([1, UUID]), [1, str(UUID)]),
        (range(3), [0, 1, 2]),
        ({"a": 1}.keys(), ["a"]),
        ({"a": 1}.values(), [1]),
        ({"a": 1}.items(), [["a", 1]]),
        (Array(1, Points.MANY), [1, 100]),
        (Array(Array(1), Array(2)), [[1], [2]]),
        ((number for number in (1, 2)), [1, 2]),
        (map(str, (1, 2)), ["1", "2"]),
        ([{"deep": (word for word in ["a"])}], [{"deep": ["a"]}]),
        (collections.ChainMap({"a": 1}), {"a": 1}),
        ({Size.BIG: 1, UUID: 2}, {"big": 1, str(UUID): 2}),
        (dt.time(12, 30), "12:30:00"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_with_one_obvious_meaning_is_sent(value: Any, meant: Any) -> None:
    outcome = examine(value).outcome
    assert isinstance(outcome, Checked)
    found = json.loads(outcome.payload, parse_float=Decimal)["properties"]["v"]
    assert (found, type(found)) == (meant, type(meant))


@pytest.mark.parametrize(
    ("value", "problem", "kept"),
    [
        ({"a"}, "a set has no order: give a list, such as sorted(...)", ["a"]),
        (frozenset([1]), "a set has no order", [1]),
        (fractions.Fraction(5, 2), "not Fraction", "5/2"),
        (b"caf\xc3\xa9", "not bytes", "café"),
        (b"\xff\x00", "not bytes", "base64:/wA="),
        (Pair.ONE, "not Pair", "Pair.ONE"),
        (Size, "not EnumType", "<enum 'Size'>"),
        (Table(1), "not Table", None),
        (io.StringIO("a line"), "not StringIO", None),
        (unittest.mock.MagicMock(), "not MagicMock", None),
        (object(), "not object", None),
        (Broken(), "not Broken", "<Broken>"),
        (math.nan, "must be a finite number", "nan"),
        (Decimal("-Infinity"), "must be a finite number", "-Infinity"),
        (NotATime(2024, 1, 1, tzinfo=dt.UTC), "must be a date or time", None),
        (10**5000, "has too many digits", None),
        (itertools.count(), "has more than 10,000 items", None),
        ({1: "a", "1": "b"}, "must be a string, not int", {"1 <int>": "a", "1": "b"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_other_value_is_refused_and_kept_as_text(value: Any, problem: str, kept: Any) -> None:
    examined = examine(value)
    assert isinstance(examined.outcome, Faulty)
    ((path, found),) = examined.outcome.faults
    assert path.startswith("properties.v")
    assert problem in found
    letter = json.loads(salvage(examined.event.as_given("key", "shop.example.com")))["properties"]
    assert letter["key"] == "k"
    assert letter["v"]
    assert letter["v"] != f"<{type(value).__name__}>" or isinstance(value, Broken)
    if kept is not None:
        assert letter["v"] == kept


def test_a_generator_may_have_10_000_items_and_no_more() -> None:
    assert isinstance(examine(iter(range(MAX_ITEMS))).outcome, Checked)
    examined = examine(iter(range(MAX_ITEMS + 1)))
    assert examined.outcome == Faulty((("properties.v", "has more than 10,000 items"),))
    kept = json.loads(salvage(examined.event.as_given("key", "shop.example.com")))["properties"]["v"]
    assert kept == [*range(MAX_ITEMS), "<has more than 10,000 items>"]


def test_a_query_is_cut_before_it_is_iterated_so_that_no_whole_table_is_loaded() -> None:
    class Query(Array):
        def __getitem__(self, place: Any) -> Any:
            return list(self.items[place])

        def __iter__(self) -> Iterator[Any]:
            raise MemoryError("the whole table")

    outcome = examine(Query(*range(MAX_ITEMS + 500))).outcome
    assert outcome == Faulty((("properties.v", "has more than 10,000 items"),))
    assert isinstance(examine(Query(1, 2)).outcome, Checked)


def test_what_raises_while_it_is_read_is_a_fault_and_what_was_read_is_kept() -> None:
    def items() -> Iterator[Any]:
        yield ITEM
        raise ConnectionError("the shop's database is away")

    event = Event("update_cart", {"items": items()}, None, None, Visitor("42"))
    examined = Validator("key", "shop.example.com").examine(event)
    assert examined.outcome == Faulty((("properties.items", "cannot be read after 1 items: ConnectionError"),))
    letter = json.loads(salvage(examined.event.as_given("key", "shop.example.com")))
    assert letter["properties"]["items"] == [ITEM, "<cannot be read after 1 items: ConnectionError>"]


def test_a_lazy_text_that_raises_is_a_fault() -> None:
    def translate() -> str:
        raise LookupError("no such catalogue")

    outcome = examine(SimpleLazyObject(translate)).outcome
    assert isinstance(outcome, Faulty)
    assert outcome.faults == (("properties.v", "cannot be read: LookupError"),)


def test_every_part_of_an_event_takes_such_values() -> None:
    data = sent(
        "purchase",
        {"order_id": UUID, "revenue": Price.FULL, "items": (item for item in [ITEM]), "state": State.PAID},
        {"language": gettext_lazy("ru"), "points": NumpyInteger(), "size": Size.BIG},
        {"tags": collections.deque(["a"])},
        visitor_uid=UUID,
        guest_uid=UUID,
        title=gettext_lazy("Thanks"),
        url=SimpleLazyObject(lambda: "https://shop.example.com/thanks"),
    )
    assert data["properties"] == {
        "order_id": str(UUID),
        "revenue": Decimal("9.50"),
        "items": [{"product_id": "1", "qnt": 1, "price": Decimal("9.5")}],
        "state": "paid",
    }
    assert data["visitor_info"] == {"language": "ru", "points": 7, "size": "big"}
    assert data["attributes"] == {"tags": ["a"]}
    assert (data["visitor_uid"], data["guest_uid"]) == (str(UUID), str(UUID))
    assert (data["title"], data["url"]) == ("Thanks", "https://shop.example.com/thanks")


def test_an_event_type_and_a_custom_key_may_be_enums() -> None:
    class Kind(enum.StrEnum):
        OWN = "custom"

    assert sent(Kind.OWN, {"key": State.PAID})["properties"] == {"key": "paid"}


@pytest.mark.parametrize("value", [True, Decimal("NaN"), "12,50", "12.50"])
def test_a_number_is_not_guessed(value: Any) -> None:
    outcome = Validator("key", "d").examine(
        Event("view_product", {"product_id": 1, "price": value}, None, None, Visitor())
    )
    assert isinstance(outcome.outcome, Faulty)


def test_a_price_in_a_text_is_refused_with_what_to_give_instead() -> None:
    event = Event("view_product", {"product_id": 1, "price": "12,50"}, None, None, Visitor("42"))
    outcome = Validator("key", "shop.example.com").examine(event).outcome
    assert outcome == Faulty((("properties.price", 'must be a number, not str; give Decimal("12.50") for "12,50"'),))


def test_a_query_of_django_is_a_list(insend: InSend, kept: Callable[[str], list[Any]]) -> None:
    with connection.schema_editor() as editor:
        editor.create_model(ContentType)
    try:
        for model in ("boots", "kettle"):
            ContentType.objects.create(app_label="shop", model=model)
        cart = ContentType.objects.order_by("pk").values(
            product_id=F("pk"), product_name=F("model"), qnt=Value(1), price=Value(Decimal("9.50"))
        )
        insend.update_cart(items=cart, visitor_uid=42)
    finally:
        connections.close_all()
    (record,) = kept("v/42")
    names = [item["product_name"] for item in json.loads(record.payload)["properties"]["items"]]
    assert names == ["boots", "kettle"]


def test_a_buried_event_keeps_the_items_of_a_generator(redis_url: str, namespace: str, outbox: Outbox) -> None:
    account: dict[str, Any] = {"app_key": "test-app-key", "domain": "shop.example.com", "enqueue_timeout_ms": 10_000}
    with InSend(**account, redis_url=redis_url, namespace=namespace, invalid="bury") as insend:
        items = ({**ITEM, "product_id": uuid.UUID(int=number), "price": None} for number in range(2))
        receipt = insend.event("purchase", {"order_id": UUID, "revenue": {9.5}, "items": items}, visitor_uid=42)
    assert receipt.where == "invalid"
    (dead,) = DeadLetters(outbox).scan()
    letter = json.loads(dead.payload)
    assert letter["properties"]["order_id"] == str(UUID)
    assert letter["properties"]["revenue"] == [9.5]
    assert [item["product_id"] for item in letter["properties"]["items"]] == [str(uuid.UUID(int=n)) for n in range(2)]


@pytest.mark.parametrize("field", ["order_id", "revenue", "state"])
def test_not_given_is_no_value_of_a_property(field: str) -> None:
    properties = {"order_id": 1, "revenue": 1, "state": "new", field: NOT_GIVEN}
    outcome = Validator("key", "d").examine(Event("purchase", properties, None, None, Visitor("42"))).outcome
    assert isinstance(outcome, Faulty)
    assert [path for path, _ in outcome.faults] == [f"properties.{field}"]


def test_what_the_caller_gave_is_not_changed() -> None:
    given = {"key": "k", "v": collections.deque([UUID])}
    Validator("key", "shop.example.com").examine(Event("custom", given, None, None, Visitor("42")))
    assert given == {"key": "k", "v": collections.deque([UUID])}


def test_a_letter_has_room_for_twice_an_events_bytes_and_no_more() -> None:
    cyrillic = {str(number): "я" * 1000 for number in range(100)}
    letter = salvage(cyrillic)
    assert MAX_LETTER_BYTES * 0.9 < len(letter) < MAX_LETTER_BYTES * 1.1
    assert json.loads(letter)["0"] == "я" * 1000
