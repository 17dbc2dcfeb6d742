"""What ``manage.py check`` says about our settings and our middleware."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import checks

from insend_relay.outbox.errors import SettingsError
from insend_relay.producers.django.configuration import read_settings, read_visitor_uid
from insend_relay.producers.insend import InSend

_OURS = "insend_relay.producers.django.middleware.InSendMiddleware"
_DJANGOS = "django.contrib.auth.middleware.AuthenticationMiddleware"


def check_settings(**_: Any) -> list[checks.CheckMessage]:
    """E001: a setting that is wrong or missing, each by its own. E002: VISITOR_UID is no function."""
    errors: list[checks.CheckMessage] = []
    try:
        InSend(settings=read_settings()).close()  # it connects at its first event, not here
    except SettingsError as error:
        hint = (
            'INSEND_APP_KEY is INSEND = {"APP_KEY": ...} in the Django settings, or a variable of the environment, and '
            'so with every setting. INSEND = {"ENABLED": False} needs no account: nothing is sent.'
        )
        errors += [checks.Error(fault, hint=hint, id="insend.E001") for fault in error.faults]
    try:
        read_visitor_uid()
    except SettingsError as error:
        hint = "Give a function that takes the request and returns the visitor's uid or None, or its dotted path."
        errors += [checks.Error(fault, hint=hint, id="insend.E002") for fault in error.faults]
    return errors


def check_middleware(**_: Any) -> list[checks.CheckMessage]:
    """W001: the middleware is missing. W002: it stands before the one that knows who is logged in."""
    middleware = list(settings.MIDDLEWARE)
    if _OURS not in middleware:
        return [
            checks.Warning(
                "InSendMiddleware is not in MIDDLEWARE: no event knows its visitor by itself.",
                hint=f'Add "{_OURS}" after AuthenticationMiddleware.',
                id="insend.W001",
            )
        ]
    if _DJANGOS in middleware[middleware.index(_OURS) :]:
        return [
            checks.Warning(
                "InSendMiddleware stands before AuthenticationMiddleware: what is sent between them is a guest's.",
                hint="Move it behind AuthenticationMiddleware.",
                id="insend.W002",
            )
        ]
    return []
