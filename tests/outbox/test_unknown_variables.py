"""Unknown ``INSEND_*`` variables: a platform's are silent, all others are a warning, and none stops anything."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from insend_relay.outbox.settings import Settings, unknown_variables

KUBERNETES = {  # what a pod finds when services "insend", "insend-tracker" and "insend-redis" are in its namespace
    "INSEND_SERVICE_HOST": "10.96.0.10",
    "INSEND_SERVICE_PORT": "80",
    "INSEND_PORT": "tcp://10.96.0.10:80",
    "INSEND_TRACKER_SERVICE_HOST": "10.96.0.11",
    "INSEND_TRACKER_SERVICE_PORT": "443",
    "INSEND_TRACKER_SERVICE_PORT_HTTPS": "443",
    "INSEND_TRACKER_PORT": "tcp://10.96.0.11:443",
    "INSEND_TRACKER_PORT_443_TCP": "tcp://10.96.0.11:443",
    "INSEND_TRACKER_PORT_443_TCP_PROTO": "tcp",
    "INSEND_TRACKER_PORT_443_TCP_PORT": "443",
    "INSEND_TRACKER_PORT_443_TCP_ADDR": "10.96.0.11",
    "INSEND_REDIS_PORT": "tcp://10.96.0.12:6379",
    "INSEND_REDIS_PORT_53_UDP": "udp://10.96.0.12:53",
}
ADD_ONS = {
    "INSEND_REDIS_TLS_URL": "rediss://:passw0rd@ec2-1.compute.example.com:6380",
    "INSEND_TLS_URL": "rediss://:passw0rd@ec2-1.compute.example.com:6380",
    "INSEND_REDIS_REST_API_URL": "https://quick-fox-1.example.com",
    "INSEND_REDIS_REST_API_READ_ONLY_TOKEN": "passw0rd",
}


@pytest.mark.parametrize("environ", [KUBERNETES, ADD_ONS], ids=["Kubernetes", "add-ons"])
def test_what_a_platform_sets_is_silent(environ: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    assert Settings.from_env(environ) == Settings()
    assert unknown_variables(environ) == []
    assert caplog.records == []


@pytest.mark.parametrize(
    ("name", "value", "near"),
    [
        ("INSEND_CONCURENCY", "8", "INSEND_CONCURRENCY"),
        ("INSEND_LEASE_SECOND", "9", "INSEND_LEASE_SECONDS"),
        ("INSEND_SPOOL_PATH", "/var/lib/spool.db", "INSEND_SPOOL"),
        ("INSEND_REDIS", "redis://:passw0rd@127.0.0.1/0", "INSEND_REDIS_URL"),
        ("INSEND_TRACKER_PORT", "8080", "INSEND_TRACKER_URL"),  # no address of Kubernetes: a person has set it
        ("INSEND_REDIS_SERVICE_PORT", "none", ""),
        ("INSEND_SHOP_BANNER", "on", ""),
        ("INSEND_VERSION", "7f3a2b", ""),
    ],
)
def test_any_other_is_a_warning_with_the_nearest_setting_and_no_value(
    name: str, value: str, near: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert Settings.from_env({name: value}) == Settings()
    (unknown,) = unknown_variables({name: value})
    assert unknown == (name, near)
    meant = f"; did you mean {near}?" if near else ""
    assert str(unknown) == f"{name} is not a setting and has no effect{meant}"
    Settings.from_env({name: value})
    assert [record.getMessage() for record in caplog.records] == [str(unknown)], "once in a process"
    assert caplog.records[0].levelno == logging.WARNING


def test_others_variables_and_empty_ones_are_left_alone() -> None:
    assert unknown_variables({"PATH": "/bin", "insend_pool": "solo", "INSEND_SPOL": " ", "INSENDER_URL": "x"}) == []


SHOP = """
from insend_relay.producers import InSend
with InSend.from_env() as insend:
    print(insend.settings.concurrency)
"""


def test_a_web_shop_starts_though_warnings_are_errors_in_it() -> None:
    """A service link that appears overnight must not stop the shop's next restart."""
    variables = {"INSEND_APP_KEY": "k", "INSEND_DOMAIN": "shop.example.com", "INSEND_CONCURENCY": "8", **KUBERNETES}
    shop = subprocess.run(
        [sys.executable, "-W", "error", "-c", SHOP],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shop.stdout == "2048\n"
    assert shop.stderr.splitlines() == [
        "INSEND_CONCURENCY is not a setting and has no effect; did you mean INSEND_CONCURRENCY?"
    ]
