"""``manage.py insend_worker``: ``insend worker`` by Django's settings."""

from __future__ import annotations

from insend_relay.producers.django.commands import InSendProgram


class Command(InSendProgram):
    """Deliver waiting events."""

    subcommand = "worker"
