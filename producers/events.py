"""One typed method per event type, so that an editor knows the fields and mypy finds a misspelling.

The rules are in ``event_types``; these methods only put their arguments into ``properties`` and call ``event``. Ids may
be strings, whole numbers or UUIDs, money and quantities any exact number. Values of other types that have one obvious
meaning (``plain_values``) are taken, too. An argument of None is left out.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Generic, NotRequired, TypedDict, TypeVar, Unpack

from insend_relay.producers.not_given import NotGiven
from insend_relay.producers.plain_values import plain
from insend_relay.producers.without_frames import without_frames

Id = str | int | uuid.UUID
Number = int | float | Decimal
R = TypeVar("R")  # what a call returns: a Receipt, or something to await it with


class Item(TypedDict):
    """One line of a cart or an order."""

    product_id: Id
    qnt: Number
    price: Number
    product_name: NotRequired[str | None]
    product_url: NotRequired[str | None]
    product_image_url: NotRequired[str | None]


class Common(TypedDict, total=False):
    """What every event may say besides its properties; see ``InSend.event``. ``NOT_GIVEN`` is the same as left out."""

    visitor_info: Mapping[str, Any] | None
    visitor_uid: Id | NotGiven | None
    guest_uid: str | NotGiven | None
    url: str | NotGiven | None
    path: str | NotGiven | None
    title: str | NotGiven | None
    referrer: str | NotGiven | None
    host: str | NotGiven | None
    attributes: Mapping[str, Any] | None
    idempotency_key: str | uuid.UUID | None
    strict: bool


class Events(ABC, Generic[R]):
    """The eleven event types as methods."""

    @abstractmethod
    def event(self, type: str, properties: Mapping[str, Any] | None = None, /, **common: Unpack[Common]) -> R:
        """Take one event of any type."""

    @without_frames
    def add_to_cart(
        self,
        *,
        product_id: Id,
        qnt: Number,
        price: Number,
        product_name: str | None = None,
        product_url: str | None = None,
        product_image_url: str | None = None,
        **common: Unpack[Common],
    ) -> R:
        """One product was put into the cart. The tracker's page recommends ``update_cart`` instead."""
        properties = {
            "product_id": product_id,
            "qnt": qnt,
            "price": price,
            "product_name": product_name,
            "product_url": product_url,
            "product_image_url": product_image_url,
        }
        return self.event("add_to_cart", properties, **common)

    @without_frames
    def remove_from_cart(
        self,
        *,
        product_id: Id,
        qnt: Number,
        product_name: str | None = None,
        product_url: str | None = None,
        **common: Unpack[Common],
    ) -> R:
        """Some of one product was taken out of the cart. The tracker's page recommends ``update_cart`` instead."""
        properties = {"product_id": product_id, "qnt": qnt, "product_name": product_name, "product_url": product_url}
        return self.event("remove_from_cart", properties, **common)

    @without_frames
    def update_cart(self, *, items: Iterable[Item], **common: Unpack[Common]) -> R:
        """The whole cart as it is now; an empty list means that it was cleared."""
        return self.event("update_cart", {"items": items}, **common)

    @without_frames
    def view_product(
        self,
        *,
        product_id: Id,
        product_name: str | None = None,
        category_id: Id | None = None,
        product_url: str | None = None,
        price: Number | None = None,
        product_image_url: str | None = None,
        **common: Unpack[Common],
    ) -> R:
        """A product's page was looked at."""
        properties = {
            "product_id": product_id,
            "product_name": product_name,
            "category_id": category_id,
            "product_url": product_url,
            "price": price,
            "product_image_url": product_image_url,
        }
        return self.event("view_product", properties, **common)

    @without_frames
    def purchase(
        self,
        *,
        order_id: Id,
        revenue: Number,
        items: Iterable[Item] | None = None,
        state: str | None = None,
        **common: Unpack[Common],
    ) -> R:
        """An order was made; ``visitor_info`` comes with it."""
        properties = {"order_id": order_id, "revenue": revenue, "items": items, "state": state}
        return self.event("purchase", properties, **common)

    @without_frames
    def order_update(
        self,
        *,
        order_id: Id,
        state: str,
        revenue: Number | None = None,
        items: Iterable[Item] | None = None,
        **common: Unpack[Common],
    ) -> R:
        """An order's state changed: ``new``, ``paid``, ``shipped``, ``canceled``, or one of your own.

        It must come with the uid under which the order was made; the tracker ignores it for an order it does not know.
        """
        properties = {"order_id": order_id, "state": state, "revenue": revenue, "items": items}
        return self.event("order_update", properties, **common)

    @without_frames
    def custom(self, *, key: str, properties: Mapping[str, Any] | None = None, **common: Unpack[Common]) -> R:
        """An event of your own, whose key is set up in the account; further properties are free."""
        further: Any = properties if type(properties) is dict else plain(properties)  # to read it may raise
        if further is None:
            further = {"key": key}
        elif isinstance(further, dict):
            further = {"key": key} | {name: value for name, value in further.items() if name != "key"}
        return self.event("custom", further, **common)

    @without_frames
    def file(self, *, file_url: str, file_title: str | None = None, **common: Unpack[Common]) -> R:
        """A file was downloaded."""
        return self.event("file", {"file_url": file_url, "file_title": file_title}, **common)

    @without_frames
    def link(self, *, key_page_id: Id | float | Decimal | None = None, **common: Unpack[Common]) -> R:
        """A page was opened; ``url``, ``path``, ``title`` and ``referrer`` say which."""
        return self.event("link", {"key_page_id": key_page_id}, **common)

    @without_frames
    def mailto(self, *, email: str, **common: Unpack[Common]) -> R:
        """An e-mail address was clicked."""
        return self.event("mailto", {"email": email}, **common)

    @without_frames
    def update_info(self, **common: Unpack[Common]) -> R:
        """What is known about the visitor changed: give ``visitor_info``."""
        return self.event("update_info", {}, **common)
