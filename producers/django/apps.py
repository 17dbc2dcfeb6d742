"""The Django app: it has no models, only checks and management commands."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import register

from insend_relay.producers.django.checks import check_middleware, check_settings


class InSendConfig(AppConfig):
    """``INSTALLED_APPS = [..., "insend_relay.producers.django"]``."""

    name = "insend_relay.producers.django"
    label = "insend"
    verbose_name = "Insend Relay"

    def ready(self) -> None:
        """Add our checks to ``manage.py check``."""
        register(check_settings)
        register(check_middleware)
