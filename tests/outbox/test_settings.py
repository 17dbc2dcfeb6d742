"""Settings: each fault is said by its variable, all at once, and the docs have the table as it is."""

from __future__ import annotations

from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import pytest

from insend_relay.outbox.errors import SettingsError
from insend_relay.outbox.settings import Settings, table, variable

DOCS = Path(__file__).parents[2] / "docs" / "settings.md"


def faults(**environ: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as refused:
        Settings.from_env(environ)
    return refused.value.faults


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_env({}) == Settings()


def test_the_process_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSEND_NAMESPACE", "from-the-environment")
    assert Settings.from_env().namespace == "from-the-environment"


@pytest.mark.parametrize("setting", fields(Settings), ids=lambda setting: str(setting.name))
def test_every_default_may_be_written_out_as_its_variable(setting: Field[Any]) -> None:
    text = {True: "1", False: "0"}.get(setting.default) if isinstance(setting.default, bool) else str(setting.default)
    assert Settings.from_env({variable(setting): str(text)}) == Settings()


@pytest.mark.parametrize("setting", fields(Settings), ids=lambda setting: str(setting.name))
def test_every_number_says_what_it_wants_and_has_a_least_value(setting: Field[Any]) -> None:
    if isinstance(setting.default, bool) or not isinstance(setting.default, int | float):
        assert setting.metadata["least"] is None
        return
    name = variable(setting)
    for text in ("many", "nan", "inf", "-1", "1000000001"):
        assert any(fault.startswith(f"{name}: must be ") for fault in faults(**{name: text})), text


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("INSEND_APP_KEY", "a key", "use the key as the account shows it"),
        ("INSEND_NAMESPACE", "{curly}", "use letters, digits, dot, - and _, at most 64"),
        ("INSEND_TRACKER_URL", "tracker.example.com", "give a full address"),
        ("INSEND_TRACKER_URL", "https:///watch/event", "give a full address"),
        ("INSEND_TRACKER_URL", "https://[broken", "give a full address"),
        ("INSEND_TRACKER_URL", "https://tracker.example.com:port/", "give a full address"),
        ("INSEND_REDIS_URL", "127.0.0.1:6379", "give an address that starts with redis://"),
        ("INSEND_REDIS_URL", "redis://127.0.0.1:port", "the port must be a number from 1 to 65535"),
        ("INSEND_BROKER_URL", "amqp://127.0.0.1", "give an address that starts with redis://"),
        ("INSEND_BROKER_URL", "redis://127.0.0.1/1?client_name=shop", "the option client_name is not supported"),
        ("INSEND_LEASE_SECONDS", "19", "too short for POSTs of up to 15 s; set at least 20"),
        ("INSEND_LEASE_SECONDS", "301", "301 is too long; set at most 300"),
        ("INSEND_RETRY_MAX_SECONDS", "1441", "1441 is too long; set at most 1440: with INSEND_RETRY_JITTER no wait"),
        ("INSEND_RETRY_AFTER_MAX_SECONDS", "1801", "1801 is too long; set at most 1800"),
        ("INSEND_OUTAGE_FIRST_SECONDS", "1441", "1441 is too long; set at most 1440"),
        ("INSEND_OUTAGE_MAX_SECONDS", "1441", "1441 is too long; set at most 1440"),
        ("INSEND_CONCURRENCY", "1.5", "must be a whole number, not '1.5'"),
        ("INSEND_ENABLED", "perhaps", "must be 1 or 0, not 'perhaps'"),
        ("INSEND_INVALID", "ignore", "must be one of auto, raise, bury, not 'ignore'"),
        ("INSEND_POOL", "solo", "must be one of prefork, threads, gevent, not 'solo'"),
    ],
)
def test_a_fault_names_its_variable_and_what_it_wants(name: str, text: str, fault: str) -> None:
    (only,) = faults(**{name: text})
    assert only.startswith(f"{name}: ")
    assert fault in only


def test_the_jitter_counts_as_part_of_the_longest_wait() -> None:
    assert Settings.from_env({"INSEND_RETRY_JITTER": "5"}).retry_jitter == 5
    (only,) = faults(INSEND_RETRY_JITTER="5.1")
    assert only.startswith("INSEND_RETRY_MAX_SECONDS: 300 is too long; set at most 295.082")


def test_the_longest_waits_that_are_allowed_are_allowed() -> None:
    allowed = {
        "INSEND_RETRY_MAX_SECONDS": "1440",
        "INSEND_RETRY_AFTER_MAX_SECONDS": "1800",
        "INSEND_LEASE_SECONDS": "300",
    }
    assert Settings.from_env(allowed).lease_seconds == 300


def test_all_faults_are_said_at_once() -> None:
    said = faults(INSEND_POOL="solo", INSEND_NAMESPACE="a b", INSEND_LEASE_SECONDS="9", INSEND_PROCESSES="-1")
    assert sorted(fault.partition(":")[0] for fault in said) == [
        "INSEND_LEASE_SECONDS",
        "INSEND_NAMESPACE",
        "INSEND_POOL",
        "INSEND_PROCESSES",
    ]


def test_an_empty_or_blank_variable_is_as_if_it_were_not_set() -> None:
    assert Settings.from_env({"INSEND_POOL": "", "INSEND_CONCURRENCY": "  "}) == Settings()


@pytest.mark.parametrize(("text", "meant"), [("1", True), ("TRUE", True), ("on", True), ("0", False), ("No", False)])
def test_a_switch_may_be_written_in_words(text: str, meant: bool) -> None:  # noqa: FBT001 - the example
    assert Settings.from_env({"INSEND_ENABLED": f" {text} "}).enabled is meant


def test_what_is_secret_is_not_shown() -> None:
    secret = Settings(app_key="k3y", redis_url="redis://:passw0rd@127.0.0.1/0", broker_url="redis://:passw0rd@h/1")
    assert not any(word in repr(secret) for word in ("k3y", "passw0rd"))
    assert "passw0rd" not in " ".join(faults(INSEND_REDIS_URL="http://:passw0rd@127.0.0.1"))


def test_a_namespace_may_be_as_long_as_64_characters() -> None:
    assert Settings.from_env({"INSEND_NAMESPACE": "n" * 64})
    assert faults(INSEND_NAMESPACE="n" * 65)


def test_the_docs_have_the_table_as_it_is() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert text.startswith("# Settings\n")
    assert text.endswith(table()), "write it anew: python -m insend_relay.outbox.settings"


def test_the_table_has_a_row_for_every_setting_and_no_row_is_broken() -> None:
    rows = table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [variable(setting) for setting in fields(Settings)]
    assert all(row.count("|") == 4 for row in rows)
