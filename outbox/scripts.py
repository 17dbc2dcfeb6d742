"""The Lua scripts: one file a transition, and how they are called.

A script's header names its KEYS and ARGV; ``Scripts.run`` takes the arguments by these names and puts them in order, so
the header is the contract that the script and its caller share (``tests/outbox/test_lua_contract.py`` holds header and
body together). ``-- Shared:`` lists the pieces of ``lua/shared`` that are set before the body.

Scripts are called by their hash, and sent whole when Redis does not know them (a restart, SCRIPT FLUSH, a failover).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from redis.exceptions import NoScriptError

from insend_relay.outbox.connection import Executor, errors_mapped
from insend_relay.outbox.keys import Keys

FOLDER = Path(__file__).parent / "lua"


@dataclass(frozen=True, slots=True)
class Script:
    """One transition.

    Attributes:
        name: Its file's name, and its verb.
        keys: The fixed keys it declares, by their names in ``Keys``.
        arguments: The names of its arguments; the first is always the prefix.
        source: The whole Lua text.
        sha: The hash by which Redis knows it.
    """

    name: str
    keys: tuple[str, ...]
    arguments: tuple[str, ...]
    source: str
    sha: str


@cache
def load(name: str) -> Script:
    """Read a script and put its shared pieces before its body."""
    text = (FOLDER / f"{name}.lua").read_text(encoding="utf-8")
    shared = [(FOLDER / "shared" / f"{piece}.lua").read_text(encoding="utf-8") for piece in header(text, "Shared")]
    names, body = text.split("\n-- body\n")
    source = "\n".join([names, *shared, body])
    digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    return Script(name, header(text, "KEYS"), header(text, "ARGV"), source, digest)


def header(text: str, title: str) -> tuple[str, ...]:
    """The words behind ``-- TITLE:`` in a script's header; none when it has no such line."""
    found = re.search(rf"^-- {title}: (.*)$", text, re.MULTILINE)
    return tuple(found.group(1).split()) if found else ()


class Scripts:
    """Runs the scripts against one namespace's keys.

    Args:
        redis: Whatever runs a command.
        keys: The namespace's keys.
    """

    def __init__(self, redis: Executor, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._ready: dict[str, tuple[Script, tuple[str, ...]]] = {}

    def run(self, name: str, **arguments: Any) -> list[Any]:
        """Run a script; ``arguments`` are those of its header but the prefix. Raises OutboxError."""
        script, keys = self._ready.get(name) or self._prepare(name)
        values = [arguments[argument] for argument in script.arguments[1:]]
        rest = (len(keys), *keys, self._keys.prefix, *values)
        with errors_mapped():
            try:
                reply: list[Any] = self._redis.execute_command("EVALSHA", script.sha, *rest)
            except NoScriptError:
                reply = self._redis.execute_command("EVAL", script.source, *rest)
        return reply

    def _prepare(self, name: str) -> tuple[Script, tuple[str, ...]]:
        script = load(name)
        self._ready[name] = script, tuple(getattr(self._keys, key) for key in script.keys)
        return self._ready[name]
