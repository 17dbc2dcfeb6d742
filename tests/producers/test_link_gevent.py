"""Under gevent: greenlets that are ended in the middle of a call, and a patch that comes after the import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tls_redis import behind_tls
from waiting import PATIENCE_SECONDS

from insend_relay.console.sandbox.embedded import EmbeddedRedis

ENDED_IN_MID_CALL = """
from gevent import monkey

monkey.patch_all()

import collections
import random
import sys

import gevent
from insend_relay.producers import InSend, NotAccepted

outcomes = collections.Counter()


def work(visitor):
    for _ in range(30):
        try:
            with gevent.Timeout(random.choice((0.0005, 0.002, 0.01))):
                outcomes[insend.link(visitor_uid=visitor).where] += 1
        except NotAccepted:
            outcomes["not accepted"] += 1
        except gevent.Timeout:
            outcomes["ended"] += 1
        gevent.sleep(0)


url, namespace = sys.argv[1:]
with InSend(app_key="a", domain="shop.example.com", redis_url=url, namespace=namespace) as insend:
    greenlets = [gevent.spawn(work, number) for number in range(40)]
    gevent.joinall(greenlets, raise_error=True)
    assert outcomes["ended"], outcomes
    while True:
        try:
            print(insend.link(visitor_uid="last").where)
            break
        except NotAccepted:
            gevent.sleep(0.01)
    pool = insend._link._pools.get()
    while len(pool._open) != len(pool._idle) or pool._waiters:  # its thread may be opening one
        gevent.sleep(0.01)
"""


def test_a_call_that_is_ended_while_it_waits_costs_nobody_else_anything(redis_url: str, namespace: str) -> None:
    command = [sys.executable, "-c", ENDED_IN_MID_CALL, redis_url, namespace]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert (done.stdout, done.returncode) == ("redis\n", 0), done.stderr


# gevent's patch after the import, as gunicorn's gevent worker with --preload has it

BEGIN = """
import sys
from insend_relay.producers import InSend, NotAccepted

url, namespace, spool = sys.argv[1:]
settings = dict(app_key="a", domain="shop.example.com", namespace=namespace, enqueue_timeout_ms=60_000)
insend = InSend(**settings, redis_url=url)
spooling = InSend(**settings, redis_url="redis://127.0.0.1:1/0", spool=spool)


def patch():
    from gevent import monkey

    monkey.patch_all()


def at_once(number, call):
    import gevent

    greenlets = [gevent.spawn(call) for _ in range(number)]
    gevent.joinall(greenlets, raise_error=True)
    return {greenlet.value for greenlet in greenlets}


def where():
    return insend.link(visitor_uid="1").where


def spooled():
    return spooling.link(visitor_uid="1").where
"""
LATE_PATCHES = {
    "made, patched, called": ("patch(); print(where(), at_once(50, where))", "redis {'redis'}"),
    "called, patched, called": (
        "print(where()); patch(); print(where(), at_once(50, where))",
        "redis\nredis {'redis'}",
    ),
    "connected, patched, called": ("insend.connect(); patch(); print(where(), at_once(50, where))", "redis {'redis'}"),
    "made, patched, spooled": ("patch(); print(spooled(), at_once(50, spooled))", "spool {'spool'}"),
    "spooled, patched, spooled": ("print(spooled()); patch(); print(at_once(50, spooled))", "spool\n{'spool'}"),
    "no connection of before is left, and its thread opens no other": (
        """
import threading, time
where()
old = insend._link._pools.get()
(connection,) = old._idle
patch()
where()
until = time.monotonic() + 60
while old._connector._place and time.monotonic() < until:
    time.sleep(0.01)
print(connection._look.fileno(), old._connector._place, list(old._open))
""",
        "-1 {} []",
    ),
    "threads alone are patched": (
        """
from gevent import monkey
monkey.patch_thread()
print(where(), at_once(50, where), spooled(), at_once(50, spooled))
""",
        "redis {'redis'} spool {'spool'}",
    ),
    "queues alone are not patched": (
        """
from gevent import monkey
monkey.patch_all(queue=False)
print(where(), at_once(50, where), spooled(), at_once(50, spooled))
""",
        "redis {'redis'} spool {'spool'}",
    ),
    "sockets alone are patched": (
        """
from gevent import monkey
monkey.patch_all(thread=False)
try:
    where()
except NotAccepted as error:
    print(error)
""",
        (
            "gevent has patched the sockets but not the threads: patch both, or neither; "
            "the event was not kept: call again later, or drop it"
        ),
    ),
    "a signal handler that runs in gevent's hub is refused at once": (
        """
patch()
import gevent

def handler():
    for call in (where, spooled):
        try:
            said.append(call())
        except NotAccepted as error:
            said.append(error.unknown)

said = []
for _ in range(2):  # without a connection and threads, and with them
    gevent.get_hub().loop.run_callback(handler)
    gevent.sleep(0.1)
    where(), spooled()
said[2] = said[2] in (True, "redis")  # there was a connection, and the answer may have come at once
print(said, where(), spooled())
""",
        "[False, False, True, False] redis spool",
    ),
}


@pytest.mark.parametrize("case", LATE_PATCHES)
def test_a_patch_after_the_import_finds_calls_in_order(
    case: str, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    script, said = LATE_PATCHES[case]
    command = [sys.executable, "-c", BEGIN + script, redis_url, namespace, str(tmp_path / "spool.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert (done.stdout.strip(), done.returncode) == (said, 0), done.stderr
    assert "Traceback" not in done.stderr


def test_a_patch_after_a_call_over_tls_finds_the_next_one_in_order(tmp_path: Path, namespace: str) -> None:
    script = "print(where()); patch(); print(where(), at_once(5, where))"
    with EmbeddedRedis(tmp_path, server="redis") as server, behind_tls(server, tmp_path) as url:
        command = [sys.executable, "-W", "ignore", "-c", BEGIN + script, url, namespace, str(tmp_path / "spool.db")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert (done.stdout.strip(), done.returncode) == ("redis\nredis {'redis'}", 0), done.stderr
