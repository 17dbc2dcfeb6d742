"""The settings of a Flask application with an account of its own."""

from __future__ import annotations

from typing import Any


def account(redis_url: str, namespace: str, app_key: str = "test-app-key") -> dict[str, Any]:
    """What ``app.config`` is to say."""
    return {
        "SECRET_KEY": "invented",
        "INSEND_APP_KEY": app_key,
        "INSEND_DOMAIN": "shop.example.com",
        "INSEND_REDIS_URL": redis_url,
        "INSEND_NAMESPACE": namespace,
        "INSEND_ENQUEUE_TIMEOUT_MS": 10_000,  # a slow machine must not decide whether a test passes
    }
