"""``manage.py insend_replay``: ``insend replay`` by Django's settings."""

from __future__ import annotations

from insend_relay.producers.django.commands import InSendCommand


class Command(InSendCommand):
    """Send dead letters again."""

    subcommand = "replay"
