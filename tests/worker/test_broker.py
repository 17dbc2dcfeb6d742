"""Celery reaches the broker exactly as the other parts reach Redis, and shows no password to an impostor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
from command_line import CommandLine
from delivering import WorkerProcess
from tls_redis import behind_tls, impostor
from two_addresses import frozen, resolve_to
from waiting import wait_until

from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.outbox.connection import connect
from insend_relay.outbox.settings import Settings
from insend_relay.worker.app import make_app

USER, PASSWORD = "re@lay", "pa/ss#w?o@r:d%41;+[1] é"
WHO = f"{quote(USER, safe='')}:{quote(PASSWORD, safe='')}"


@pytest.mark.parametrize("setting", ["redis_url", "broker_url"])
def test_an_impostor_gets_no_user_and_no_password_from_celery(
    setting: str, tmp_path: Path, start_worker: Callable[..., WorkerProcess]
) -> None:
    with impostor(tmp_path) as server:
        url = f"rediss://relay:open-sesame@127.0.0.1:{server.port}/0"  # by the authorities of this machine
        worker = start_worker(**{setting: url})
        wait_until(lambda: server.received or "Cannot connect to rediss://" in worker.log.read_text())
        worker.end()
        assert not server.received
    log = worker.log.read_text()
    assert "certificate" in log
    assert "open-sesame" not in log


@pytest.mark.parametrize("form", ["redis://{who}@127.0.0.1:{port}/2", "unix://{who}@{path}?db=2", "rediss"])
def test_celery_and_our_client_reach_the_same_database_as_the_same_user(form: str, tmp_path: Path) -> None:
    path = tmp_path / "s@cket"
    config = {"unixsocket": str(path), "appendonly": "no"}
    with EmbeddedRedis(tmp_path / "redis", server="redis", config=config) as server:
        with redis.Redis.from_url(server.url) as admin:
            admin.execute_command("ACL", "SETUSER", USER, "on", f">{PASSWORD}", "~*", "&*", "+@all")
            admin.execute_command("ACL", "SETUSER", "default", "off")
        with behind_tls(server, tmp_path) as tls:
            url = form.format(who=WHO, port=server.port, path=quote(str(path)))
            if form == "rediss":
                url = tls.replace("rediss://", f"rediss://{WHO}@").replace("/0?", "/2?")
            with make_app(Settings(redis_url=url, namespace="test")) as app, connect(url) as client:
                app.send_task("worker.deliver", retry=False)
                assert client.llen("test:celery:insend") == 1
                assert set(client.info("keyspace")) == {"db2"}


def test_each_connection_of_celery_tries_first_the_address_that_worked_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddedRedis(tmp_path / "redis", server="redis", config={"appendonly": "no"}) as server, frozen() as node:
        url = resolve_to(monkeypatch, node.port, server.port)
        for sent in (1, 2):
            with make_app(Settings(redis_url=url, namespace="test")) as app, connect(server.url) as client:
                app.send_task("worker.deliver", retry=False)
                assert client.llen("test:celery:insend") == sent
        wait_until(lambda: node.closed == node.taken)
        assert node.taken == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"INSEND_REDIS_URL": "{url}?socket_timeout=1"},
            "INSEND_REDIS_URL: the option socket_timeout is not supported",
        ),
        ({"INSEND_REDIS_URL": "{url}?health_check_interval=1"}, "the option health_check_interval is not supported"),
        ({"INSEND_BROKER_URL": "{url}?client_name=x"}, "INSEND_BROKER_URL: the option client_name is not supported"),
        ({"INSEND_BROKER_URL": "redis://:hunter2#1@127.0.0.1/1"}, "INSEND_BROKER_URL: percent-encode"),
        ({"INSEND_BROKER_URL": "redis://127.0.0.1/cache"}, "INSEND_BROKER_URL: the database must be a number"),
    ],
)
def test_a_wrong_address_ends_a_worker_and_a_command_with_the_same_sentence(
    change: dict[str, str], words: str, redis_url: str, namespace: str
) -> None:
    insend = CommandLine(redis_url, namespace)
    settings: dict[str, Any] = {name: url.format(url=redis_url) for name, url in change.items()}
    for command in ("worker", "status"):
        result = insend.process(command, **settings)
        assert (result.returncode, result.stdout) == (2, "")
        assert words in result.stderr
        assert "Traceback" not in result.stderr
        assert "hunter2" not in result.stderr
