"""Fixtures for the example shops: each as ``make shop-...`` starts it, with its Redis, worker and sandbox."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from shops import REPOSITORY, SHOPS, Shop
from waiting import PATIENCE_SECONDS, wait_until


@pytest.fixture(scope="session", params=SHOPS)
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Each example shop in turn, in a folder of its own."""
    folder = tmp_path_factory.mktemp(request.param)
    shutil.copy(REPOSITORY / "Procfile", folder)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("INSEND_")}
    environ["INSEND_ENQUEUE_TIMEOUT_MS"] = "30000"  # a slow machine must not decide
    output = folder / "output"
    command = [sys.executable, str(REPOSITORY / "examples" / "start.py"), request.param]
    with output.open("wb") as log:
        run = subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log)
    try:
        wait_until(lambda: "Ctrl-C ends it" in output.read_text() or run.poll() is not None)
        assert run.poll() is None, output.read_text()
        said = output.read_text()
        yield Shop(
            request.param,
            url=shown(r"The shop: (\S+)", said),
            sandbox=shown(r"as a page: (\S+)", said),
            redis_url=shown(r"INSEND_REDIS_URL=(\S+)", said),
            folder=folder,
        )
    finally:
        run.terminate()
        code = run.wait(PATIENCE_SECONDS)
    assert code == 0, output.read_text()
    assert "Traceback" not in output.read_text()


def shown(pattern: str, said: str) -> str:
    """What the start said."""
    found = re.search(pattern, said)
    assert found, said
    return found.group(1)
