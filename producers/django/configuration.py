"""The Django setting ``INSEND``: each ``INSEND_*`` variable under its name without the prefix, and ``VISITOR_UID``.

What it says goes before the environment; what it does not say is taken from there. It is read when something is first
needed of it, never at import.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any, NamedTuple

from django.conf import settings as django_settings

from insend_relay.outbox.errors import SettingsError
from insend_relay.outbox.settings import Settings, variable
from insend_relay.producers.configured import as_variable
from insend_relay.producers.django.logged_in import LoggedIn, logged_in_by

_PREFIX = "INSEND_"
_VISITOR_UID = "VISITOR_UID"
_NAMES = {variable(setting).removeprefix(_PREFIX) for setting in fields(Settings)}


class Configuration(NamedTuple):
    """All that the project has set.

    Attributes:
        settings: The relay's settings.
        logged_in: Who is logged in.
    """

    settings: Settings
    logged_in: LoggedIn


@cache
def configuration() -> Configuration:
    """All that the project has set; SettingsError lists what is wrong. ``setting_changed`` empties the cache."""
    return Configuration(read_settings(), read_visitor_uid())


def read_settings() -> Settings:
    """The relay's settings; SettingsError lists every fault."""
    return Settings.from_env({**os.environ, **overrides()})


def read_visitor_uid() -> LoggedIn:
    """Who is logged in, as the project finds out; SettingsError when it names no function."""
    try:
        return logged_in_by(_given().get(_VISITOR_UID))
    except (ImportError, TypeError) as error:
        raise SettingsError([f'INSEND["{_VISITOR_UID}"]: {error}']) from error


def overrides() -> dict[str, str]:
    """The setting ``INSEND`` as environment variables; SettingsError lists every entry that cannot be one."""
    written: dict[str, str] = {}
    faults: list[str] = []
    for name, value in _given().items():
        if name == _VISITOR_UID:
            continue
        if name not in _NAMES:
            faults.append(f"INSEND[{name!r}]: no such setting{_meant(str(name))}")
        else:
            try:
                written[_PREFIX + name] = as_variable(value)
            except TypeError as error:
                faults.append(f"INSEND[{name!r}]: {error}")
    if faults:
        raise SettingsError(faults)
    return written


def _given() -> Mapping[Any, Any]:
    given = getattr(django_settings, "INSEND", {})
    if not isinstance(given, Mapping):
        raise SettingsError(['INSEND: give a dict, such as {"APP_KEY": "...", "DOMAIN": "shop.example.com"}'])
    return given


def _meant(name: str) -> str:
    near = difflib.get_close_matches(name.upper().removeprefix(_PREFIX), [*_NAMES, _VISITOR_UID], n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
