"""A worker in the shop's environment is configured by INSEND_* alone."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import billiard
import celery
import kombu
import pytest
import redis
from delivering import APP, WorkerProcess, payload
from waiting import wait_until

from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.console.sandbox.sandbox import Sandbox
from insend_relay.outbox.connection import connect
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.record import new_id
from insend_relay.outbox.store import Outbox
from insend_relay.worker.environment import drop_celery_variables, is_celerys

# Read by Celery or its libraries, and none of its configuration.
ANOTHER_MATTER = {"TERM", "ITERM_PROFILE", "NO_COLOR", "NUMBER_OF_PROCESSORS", "MULTIPROCESSING_FORKING_DISABLE"}
NOT_LOADED = ("celery/contrib", "celery/backends", "kombu/transport/SLMQ", "kombu/transport/gcpubsub")
PROOF = "open({path!r}, 'a').write(__name__)\n"


def environment_names(source: str) -> Iterator[str]:
    """The variables that a module reads: arguments of calls, keys, and defaults that speak of the environment."""
    for node in ast.walk(ast.parse(source)):
        found: list[ast.expr | None] = []
        match node:
            case ast.Call(func=func, args=args, keywords=keywords):
                if "env" in ast.unparse(func).lower():
                    found += args[:1]
                found += [word.value for word in keywords if word.arg in ("env", "envvar")]
            case ast.Subscript(value=value, slice=key) if "environ" in ast.unparse(value):
                found.append(key)
            case ast.FunctionDef(args=arguments):
                named = [*arguments.posonlyargs, *arguments.args][-len(arguments.defaults) :]
                given = zip(named, arguments.defaults, strict=False)
                found += [default for name, default in given if "env" in name.arg]
        for each in found:
            if isinstance(each, ast.Constant) and isinstance(each.value, str) and re.fullmatch("[A-Z_]+", each.value):
                yield each.value


def test_every_variable_that_celery_reads_is_known() -> None:
    names: set[str] = set()
    for package in (celery, kombu, billiard):
        root = Path(str(package.__file__)).parent
        for path in root.rglob("*.py"):
            if not str(path.relative_to(root.parent)).startswith(NOT_LOADED):
                names |= set(environment_names(path.read_text(encoding="utf-8")))
    assert {"CELERY_BROKER_URL", "CELERY_LOADER", "CELERY_CONFIG_MODULE", "BROKER_URL", "REMAP_SIGTERM"} <= names
    assert {name for name in names if not is_celerys(name)} - ANOTHER_MATTER == set()


def test_the_rest_of_the_environment_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"HTTPS_PROXY": "http://proxy", "NO_PROXY": "*", "REQUESTS_CA_BUNDLE": "/ca.pem", "INSEND_POOL": "threads"}
    for name, value in {**kept, "CELERY_BROKER_URL": "redis://h", "APP": "shop"}.items():
        monkeypatch.setenv(name, value)
    drop_celery_variables()
    assert {name: os.environ.get(name) for name in kept} == kept
    assert not {"CELERY_BROKER_URL", "APP"} & set(os.environ)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_the_variables_and_files_of_the_shops_celery_and_django_change_nothing(
    pool: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    start_worker: Callable[..., WorkerProcess],
    sandbox: Sandbox,
) -> None:
    shop, loaded = tmp_path / "shop", tmp_path / "loaded"
    shop.mkdir()
    for module in ("celeryconfig", "shop_config", "shop_settings", "shop_loader", "shop_pool", "shop_app"):
        (shop / f"{module}.py").write_text(PROOF.format(path=str(loaded)))
    monkeypatch.chdir(shop)
    monkeypatch.setenv("PYTHONPATH", str(shop))
    with EmbeddedRedis(tmp_path / "redis", server="redis") as server, connect(server.url) as client:
        shops = server.url.replace("/0", "/5")
        for name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL", "BROKER_URL"):
            monkeypatch.setenv(name, shops)
        for name in ("CELERY_RESULT_BACKEND", "RESULT_BACKEND"):
            monkeypatch.setenv(name, shops)
        for name, value in {
            "CELERY_CONFIG_MODULE": "shop_config",
            "CONFIG_MODULE": "shop_config",
            "CELERY_LOADER": "shop_loader:Loader",
            "LOADER": "shop_loader:Loader",
            "CELERY_CUSTOM_WORKER_POOL": "shop_pool:Pool",
            "CELERY_WORKER_REVOKES_MAX": "many",
            "CELERY_TASK_ALWAYS_EAGER": "1",
            "CELERY_SKIP_CHECKS": "1",
            "APP": "shop_app",
            "DJANGO_SETTINGS_MODULE": "shop_settings",
            "FORKED_BY_MULTIPROCESSING": "1",
            "C_FORCE_ROOT": "1",
            "C_STRICT_APP": "1",
            "REMAP_SIGTERM": "SIGQUIT",
        }.items():
            monkeypatch.setenv(name, value)
        outbox = Outbox(client)
        worker = start_worker(redis_url=server.url, namespace="insend", pool=pool)
        worker.wait_ready()
        outbox.append(Lane(APP, "v", "1"), new_id(), payload("1", 1))
        wait_until(lambda: len(sandbox.received) == 1)
        assert set(client.info("keyspace")) == {"db0"}
        with redis.Redis.from_url(server.url) as admin:
            users = [each for each in admin.client_list() if each["db"] == "5"]
    assert users == []
    assert not loaded.exists()
