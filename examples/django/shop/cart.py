"""The cart: it lives in the visitor's session."""

from decimal import Decimal
from typing import NamedTuple

from django.http import HttpRequest

from insend_relay.producers.events import Item
from shop.products import PRODUCTS, Product


class Line(NamedTuple):
    """So many of one product."""

    product: Product
    count: int

    @property
    def price(self) -> Decimal:
        """What they cost together."""
        return self.product.price * self.count


class Cart:
    """What a visitor is about to buy."""

    def __init__(self, request: HttpRequest) -> None:
        self._session = request.session
        self._counts: dict[str, int] = request.session.get("cart", {})

    @property
    def lines(self) -> list[Line]:
        """A line per product, in the order in which they were put in."""
        return [Line(PRODUCTS[int(product)], count) for product, count in self._counts.items()]

    @property
    def total(self) -> Decimal:
        """What it all costs."""
        return sum((line.price for line in self.lines), Decimal(0))

    @property
    def items(self) -> list[Item]:
        """The lines as ``update_cart`` and ``purchase`` want them."""
        return [
            {
                "product_id": product.id,
                "qnt": count,
                "price": product.price,
                "product_name": product.name,
            }
            for product, count in self.lines
        ]

    def add(self, product: Product) -> None:
        """Put one more in."""
        self._counts[str(product.id)] = self._counts.get(str(product.id), 0) + 1
        self._session["cart"] = self._counts

    def clear(self) -> None:
        """Take everything out."""
        self._counts = {}
        self._session["cart"] = {}
