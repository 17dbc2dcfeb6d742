"""Commands are packed as redis-py packs them, and a signal handler that raises meanwhile crashes nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Any

import redis
from hypothesis import given
from hypothesis import strategies as st
from uncovered import without_coverage
from waiting import PATIENCE_SECONDS

from insend_relay.producers.packing import packed

WORDS = st.one_of(st.binary(), st.text(st.characters(exclude_categories=["Cs"])), st.integers())
INTERRUPTED = """
import signal
from insend_relay.producers.packing import packed

class Interrupted(BaseException):
    pass

def interrupt(*_):
    raise Interrupted

signal.signal(signal.SIGALRM, interrupt)
command, interrupted = ["ECHO", *range(2_000)], 0
while interrupted < 500:  # hiredis ends within 50 of these
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0001 + interrupted % 50 * 0.00001)
        while True:
            packed(command)
    except Interrupted:
        interrupted += 1
print(interrupted)
"""


@given(st.lists(WORDS, max_size=20))
def test_a_command_is_packed_as_redis_py_does_it(words: list[bytes | str | int]) -> None:
    command = ["ECHO", *words]
    connection: Any = redis.Connection
    assert packed(command) == b"".join(connection().pack_commands([command]))


@given(st.lists(st.text("ab", max_size=3), min_size=1, max_size=4), st.lists(WORDS, max_size=5))
def test_a_script_that_is_called_again_is_packed_with_the_keys_and_arguments_of_this_call(
    keys: list[str], arguments: list[bytes | str | int]
) -> None:
    connection: Any = redis.Connection
    for command in (["EVALSHA", "5ac", len(keys), *keys, *arguments], ["EVALSHA", "5ac", 1, keys[-1], *arguments]):
        for _ in range(2):
            assert packed(command) == b"".join(connection().pack_commands([command]))


def test_a_signal_handler_that_raises_while_a_command_is_packed_does_not_crash_the_process() -> None:
    words = [sys.executable, "-c", INTERRUPTED]
    env = without_coverage()
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False, env=env)
    assert done.returncode != -signal.SIGSEGV
    assert (done.stdout, done.returncode) == ("500\n", 0), done.stderr
