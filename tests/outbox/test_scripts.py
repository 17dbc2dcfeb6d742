"""How scripts are called: by their hash, whole when Redis does not know them, with their arguments by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from lanes import ALICE, books, put

from insend_relay.outbox import record, scripts
from insend_relay.outbox.connection import connect
from insend_relay.outbox.errors import OutboxRefused
from insend_relay.outbox.keys import Keys
from insend_relay.outbox.store import Outbox


class Recorder:
    """A client that remembers the commands' names."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.commands: list[str] = []

    def execute_command(self, *args: Any) -> Any:
        self.commands.append(args[0])
        return self.client.execute_command(*args)  # type: ignore[no-untyped-call]


@pytest.fixture
def either(either_url: str) -> Iterator[redis.Redis]:
    """A client of either server, empty."""
    with connect(either_url) as client:
        client.flushall()
        yield client


def test_a_script_that_redis_has_forgotten_is_sent_whole_once(either: redis.Redis) -> None:
    recorder = Recorder(either)
    outbox = Outbox(recorder)
    either.script_flush()
    put(outbox)
    put(outbox)
    assert recorder.commands == ["EVALSHA", "EVAL", "EVALSHA"]
    assert books(outbox)["accepted"] == 2


def test_a_failing_script_is_not_run_again(either: redis.Redis) -> None:
    recorder = Recorder(either)
    outbox = Outbox(recorder)
    either.set(outbox.keys.ledger, "no hash")
    either.script_load(scripts.load("append").source)
    with pytest.raises(OutboxRefused, match="wrong kind of value"):
        outbox.append(ALICE, record.new_id(), b"{}")
    assert recorder.commands == ["EVALSHA"]


def test_arguments_go_by_their_names_whatever_their_order(either: redis.Redis) -> None:
    run = scripts.Scripts(either, Keys("insend")).run
    draft = record.encode(record.Record(b"i" * 16, 0, 0, 0, "", b"{}"))
    arguments = {"draft": draft, "once_ms": 1, "once_key": "", "once_digest": b""}
    arguments |= {"file": "", "slot": ""}
    assert run("append", **arguments, app="shop", lane="shop/v/1")[0] == b"APPENDED"
    stored = either.lindex(Keys("insend").lane("shop/v/1"), 0)
    assert stored is not None
    assert record.decode(bytes(stored)).id == b"i" * 16  # type: ignore[arg-type]


def test_a_forgotten_argument_is_found_before_anything_is_sent(either: redis.Redis) -> None:
    with pytest.raises(KeyError, match="lane"):
        scripts.Scripts(either, Keys("insend")).run("append", app="shop")
    assert either.dbsize() == 0


def test_a_header_line_is_read_as_words_and_a_missing_one_as_none() -> None:
    text = "-- x: y\n-- KEYS: apps wake\n-- ARGV: prefix app\n"
    assert scripts.header(text, "KEYS") == ("apps", "wake")
    assert scripts.header(text, "Shared") == ()


def test_shared_pieces_stand_between_the_names_and_the_body() -> None:
    source = scripts.load("settle").source
    signs = ("unpack(ARGV)", "redis.call('TIME')", "function advance", "local lanes, tokens")
    order = [source.index(sign) for sign in signs]
    assert order == sorted(order)


def test_redis_gets_no_comment_and_no_function_that_the_script_does_not_reach() -> None:
    source = scripts.load("settle").source
    assert "--" not in source
    assert "function standing(" in scripts.piece("lane")
    assert "function standing(" not in source
