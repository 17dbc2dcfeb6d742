"""What the example shop keeps in its database; customers are Django's own users."""

import secrets

from django.conf import settings
from django.db import models


def new_order_id() -> str:
    """An id that nobody guesses."""
    return secrets.token_hex(8)


class Order(models.Model):
    """An order."""

    id = models.CharField(primary_key=True, max_length=16, default=new_order_id)
    customer = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)
    revenue = models.DecimalField(max_digits=10, decimal_places=2)
    state = models.CharField(max_length=16, default="new")

    def __str__(self) -> str:
        return self.id
