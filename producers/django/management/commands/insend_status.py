"""``manage.py insend_status``: ``insend status`` by Django's settings."""

from __future__ import annotations

from insend_relay.producers.django.commands import InSendCommand


class Command(InSendCommand):
    """How the relay stands."""

    subcommand = "status"
