"""Greenlets that are ended in the middle of a call leave the link in order for all others."""

from __future__ import annotations

import subprocess
import sys

from waiting import PATIENCE_SECONDS

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
