"""What the example shop sells."""

from decimal import Decimal
from typing import NamedTuple


class Product(NamedTuple):
    """One product."""

    id: int
    name: str
    price: Decimal


PRODUCTS = {
    product.id: product
    for product in (
        Product(1, "Teapot", Decimal("24.90")),
        Product(2, "Cup", Decimal("7.50")),
        Product(3, "Green tea, 100 g", Decimal("5.20")),
    )
}
