"""The setting ``INSEND``, what ``manage.py check`` says about it, and what an import costs."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.test import override_settings
from django_site import MIDDLEWARE
from waiting import PATIENCE_SECONDS

from insend_relay.outbox.errors import SettingsError
from insend_relay.producers import NotAccepted
from insend_relay.producers.django import ainsend, insend
from insend_relay.producers.django.configuration import read_settings
from insend_relay.producers.django.shared import AtFirstUse, the_insend
from insend_relay.producers.insend import InSend

ACCOUNT: dict[Any, Any] = {"APP_KEY": "test-app-key", "DOMAIN": "shop.example.com"}


def found(**settings: Any) -> list[CheckMessage]:
    """What ``manage.py check`` says of us."""
    with override_settings(**settings):
        return [message for message in run_checks() if message.id.startswith("insend.")]


def ids(**settings: Any) -> list[str]:
    return [message.id for message in found(**settings)]


def test_what_insend_says_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"APP_KEY": "theirs", "DOMAIN": "env.example.com", "PROCESSES": "3", "ENABLED": "1"}.items():
        monkeypatch.setenv(f"INSEND_{name}", value)
    given = {"APP_KEY": "ours", "ENABLED": False, "ENQUEUE_TIMEOUT_MS": 99, "RETRY_JITTER": 0.5, "PROCESSES": None}
    with override_settings(INSEND=given):
        settings = read_settings()
    assert (settings.app_key, settings.domain) == ("ours", "env.example.com")
    assert (settings.enabled, settings.enqueue_timeout_ms, settings.retry_jitter) == (False, 99, 0.5)
    assert settings.processes == 0  # None: the default


def test_a_sound_project_passes_the_checks() -> None:
    assert found(INSEND=ACCOUNT) == []
    assert found(INSEND={"ENABLED": False}) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, ["INSEND_APP_KEY (app_key=) is not set", "INSEND_DOMAIN (domain=) is not set"]),
        ({**ACCOUNT, "DOMIAN": "x"}, ["INSEND['DOMIAN']: no such setting; did you mean 'DOMAIN'?"]),
        ({**ACCOUNT, "INSEND_APP_KEY": "x"}, ["did you mean 'APP_KEY'?"]),
        ({**ACCOUNT, "redis_url": "x"}, ["did you mean 'REDIS_URL'?"]),
        ({**ACCOUNT, 7: "x"}, ["INSEND[7]: no such setting"]),
        ({**ACCOUNT, "PROCESSES": [2]}, ["INSEND['PROCESSES']: give text, a number, True or False, not a list"]),
        ({**ACCOUNT, "PROCESSES": "two"}, ["INSEND_PROCESSES"]),
        ({**ACCOUNT, "REDIS_URL": "http://x", "POOL": "x"}, ["INSEND_REDIS_URL", "INSEND_POOL"]),
        (["APP_KEY"], ["INSEND: give a dict"]),
    ],
)
def test_each_wrong_setting_is_an_error_of_its_own_with_a_hint(given: object, words: list[str]) -> None:
    errors = [error for error in found(INSEND=given) if error.id == "insend.E001"]
    assert len(errors) == len(words)
    for word in words:
        assert any(word in error.msg for error in errors)
    assert all('INSEND = {"APP_KEY": ...}' in error.hint for error in errors)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ("no_such_module.uid", "No module named 'no_such_module'"),
        ("django_site.no_such_function", "no_such_function"),
        ("uid", "module path"),
        (7, "not a int"),
    ],
)
def test_a_visitor_uid_that_is_no_function_is_an_error(given: object, word: str) -> None:
    (error,) = found(INSEND={**ACCOUNT, "VISITOR_UID": given})
    assert error.id == "insend.E002"
    assert 'INSEND["VISITOR_UID"]' in error.msg
    assert word in error.msg


def test_the_middleware_is_missed_and_wants_to_stand_behind_authentication() -> None:
    *django, ours = MIDDLEWARE
    assert ids(INSEND=ACCOUNT, MIDDLEWARE=django) == ["insend.W001"]
    assert ids(INSEND=ACCOUNT, MIDDLEWARE=[ours, *django]) == ["insend.W002"]
    assert ids(INSEND=ACCOUNT, MIDDLEWARE=[ours]) == []


def test_a_wrong_setting_is_told_at_the_first_call_too() -> None:
    with override_settings(INSEND={"DOMAIN": "shop.example.com"}), pytest.raises(SettingsError, match="INSEND_APP_KEY"):
        insend.link(visitor_uid=42)


def test_overridden_settings_get_an_insend_of_their_own_and_close_the_old_one() -> None:
    with override_settings(INSEND=ACCOUNT):
        first = the_insend()
        assert the_insend() is first
        with override_settings(INSEND={**ACCOUNT, "ENABLED": False}):
            assert insend.link(visitor_uid=42).where == "disabled"
            with pytest.raises(NotAccepted, match="closed"):
                first.link(visitor_uid=42)
        assert the_insend() is not first


def test_threads_that_come_first_together_get_the_same_one() -> None:
    start = threading.Barrier(8)

    def ask(made: AtFirstUse[InSend]) -> InSend:
        start.wait(PATIENCE_SECONDS)
        return made()

    with override_settings(INSEND=ACCOUNT), ThreadPoolExecutor(8) as threads:
        made = AtFirstUse(InSend)
        assert len(set(threads.map(ask, [made] * 8))) == 1
        made().close()


def test_a_first_use_in_the_middle_of_another_gets_the_same_one() -> None:
    class Reentered(InSend):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            if not inner:  # as a signal handler has it
                inner.append(None)
                inner[0] = made()

    inner: list[InSend | None] = []
    with override_settings(INSEND=ACCOUNT):
        made: AtFirstUse[InSend] = AtFirstUse(Reentered)
        assert made() is inner[0]
        made().close()


LOADED = """
import sys, threading
from insend_relay.producers.django import ainsend, insend
from insend_relay.producers.django import configuration, middleware, on_commit
rooms = ("insend_relay.worker", "insend_relay.console")
heavy = {"celery", "kombu", "requests", "tenacity", "click", "rich", "django.contrib.auth"}
print(sorted(name for name in sys.modules if name in heavy or name.startswith(rooms)), threading.active_count())
"""


def test_importing_it_needs_no_settings_and_loads_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LOADED],
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.stdout.split() == ["[]", "1"]


def test_it_shows_no_secret() -> None:
    with override_settings(INSEND={**ACCOUNT, "REDIS_URL": "redis://:geheim@127.0.0.1:1/0"}):
        assert "geheim" not in f"{insend!r} {ainsend!r} {insend.on_commit!r} {the_insend()!r}"
