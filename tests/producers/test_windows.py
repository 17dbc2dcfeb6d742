"""On Windows producers check, record and leave out events; the spool and the worker say that they do not work there.

Windows is simulated: what it lacks of Python's modules is taken away before anything of ours is imported.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from waiting import PATIENCE_SECONDS

WINDOWS = """
import asyncio, importlib.abc, logging.handlers, multiprocessing, os, select, socket, sqlite3, subprocess
import sys, sysconfig
sysconfig.get_config_vars()  # read for this system, while Python still says which
import click, redis, redis.asyncio, rich.console, rich.progress, rich.prompt  # others' code is not under test
from click.testing import CliRunner

MISSING = "fcntl", "resource", "grp", "pwd", "termios"


class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


for name in MISSING:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Missing())
for name in "fork", "register_at_fork", "posix_fallocate", "getuid", "geteuid", "killpg", "sched_getaffinity":
    delattr(os, name)
del select.poll
sys.platform = "win32"
account = dict(app_key="test-app-key", domain="shop.example.com")
url, namespace = sys.argv[1:]
"""
CASES = {
    "events are checked": (
        """
from insend_relay.producers import InSend, InvalidEvent
insend = InSend(**account, enabled=False, invalid="raise")
try:
    insend.mailto(email="", visitor_uid=1)
except InvalidEvent as error:
    print(error.faults[0][0])
""",
        "properties.email",
    ),
    "switched off it sends nothing, though a spool is set": (
        """
os.environ |= {"INSEND_ENABLED": "0", "INSEND_SPOOL": "/var/lib/insend/spool.db"}
from insend_relay.producers import AsyncInSend, InSend
print(InSend.from_env().link(visitor_uid=1).where, asyncio.run(AsyncInSend.from_env().link(visitor_uid=1)).where)
""",
        "disabled disabled",
    ),
    "events are recorded": (
        """
from insend_relay.producers import InSend
from insend_relay.producers.testing import recording
with recording() as events:
    InSend(**account).link(visitor_uid=1)
print(events.types)
""",
        "['link']",
    ),
    "events reach Redis": (
        """
from insend_relay.producers import AsyncInSend, InSend
settings = dict(**account, redis_url=url, namespace=namespace, enqueue_timeout_ms=20_000)
with InSend(**settings) as insend:
    print(insend.link(visitor_uid=1).where, insend.link(visitor_uid=1).where)

async def main():
    async with AsyncInSend(**settings) as ainsend:
        print((await ainsend.link(visitor_uid=1)).where, (await ainsend.link(visitor_uid=1)).where)

asyncio.run(main())
""",
        "redis redis\nredis redis",
    ),
    "the spool is refused in a sentence": (
        """
from insend_relay.outbox.errors import SettingsError
from insend_relay.producers import InSend
try:
    InSend(**account, spool="/var/lib/insend/spool.db")
except SettingsError as error:
    print(error)
""",
        "INSEND_SPOOL: the spool does not work on Windows: leave the setting empty there",
    ),
    "the worker is refused in a sentence": (
        """
from insend_relay.console.commands.main import main
sys.argv = ["insend", "worker"]
sys.stderr = sys.stdout
try:
    main()
except SystemExit as end:
    print(end.code)
""",
        "the worker does not run on Windows: run it under Linux, such as in WSL or a container\n2",
    ),
    "the other commands are there": (
        """
from insend_relay.console.commands.main import main
sys.argv = ["insend", "status", "--help"]
try:
    main()
except SystemExit as end:
    print(end.code)
""",
        "\n0",
    ),
    "the bindings are there": (
        """
import insend_relay.producers.asgi, insend_relay.producers.flask, insend_relay.producers.pytest_plugin
from django.conf import settings
settings.configure(INSTALLED_APPS=["insend_relay.producers.django"])
from insend_relay.producers.django import ainsend, insend
print("there")
""",
        "there",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_on_windows(case: str, redis_url: str, namespace: str, tmp_path: Path) -> None:
    script, said = CASES[case]
    command = [sys.executable, "-c", WINDOWS + script, redis_url, namespace]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False, cwd=tmp_path)
    assert done.stdout.strip().endswith(said.strip()), (done.stdout, done.stderr)
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode == 0
