"""Insend Relay in a Django project: an app, a middleware, and what a view calls.

In the settings::

    INSTALLED_APPS = [..., "insend_relay.producers.django"]
    MIDDLEWARE = [..., "insend_relay.producers.django.middleware.InSendMiddleware"]  # after AuthenticationMiddleware
    INSEND = {"APP_KEY": "...", "DOMAIN": "shop.example.com", "REDIS_URL": "redis://127.0.0.1:6379/0"}

In a view::

    from insend_relay.producers.django import insend

    insend.view_product(product_id=7)
    insend.on_commit.purchase(order_id=order.pk, revenue=order.total)

The middleware says whose event it is. An async view awaits the same calls of ``ainsend``.
"""

from insend_relay.producers.django.shared import ainsend, insend

__all__ = ["ainsend", "insend"]
