"""``manage.py insend_audit``: ``insend audit`` by Django's settings."""

from __future__ import annotations

from insend_relay.producers.django.commands import InSendCommand


class Command(InSendCommand):
    """Recount everything and compare it with the books."""

    subcommand = "audit"
