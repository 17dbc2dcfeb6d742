"""The Lua scripts: one file a transition, and how they are called.

A script's header names its KEYS and ARGV; ``Calls.call`` takes the arguments by these names and puts them in order, so
the header is the contract that the script and its caller share (``tests/outbox/test_lua_contract.py`` holds header and
body together). ``-- Shared:`` lists the pieces of ``lua/shared`` that are set before the body. Redis gets only those of
their functions that the script reaches: a script makes its functions anew at each call, which takes 0.3 us for each.

Scripts are called by their hash, and sent whole when Redis does not know them (a restart, SCRIPT FLUSH, a failover).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from redis.exceptions import NoScriptError

from insend_relay.outbox.connection import AsyncExecutor, Executor, errors_mapped
from insend_relay.outbox.keys import Keys
from insend_relay.outbox.masked import masked

_FUNCTION = re.compile(r"^local function (\w+)\(.*?^end\n", re.MULTILINE | re.DOTALL)
FOLDER = Path(__file__).parent / "lua"
COMMANDS = ("EVALSHA", "EVAL")  # what a script is run by


@dataclass(frozen=True, slots=True)
class Script:
    """One transition.

    Attributes:
        name: Its file's name, and its verb.
        keys: The fixed keys it declares, by their names in ``Keys``.
        arguments: The names of its arguments; the first is always the prefix.
        source: The Lua text that Redis gets, without comments.
        sha: The hash by which Redis knows it.
    """

    name: str
    keys: tuple[str, ...]
    arguments: tuple[str, ...]
    source: str
    sha: str


@cache
def load(name: str) -> Script:
    """Read a script and put what it needs of its shared pieces before its body."""
    text = (FOLDER / f"{name}.lua").read_text(encoding="utf-8")
    shared = "\n".join(piece(each) for each in header(text, "Shared"))
    names, body = map(_code, text.split("\n-- body\n"))
    source = "\n".join([names, _needed(_code(shared), body), body])
    digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    return Script(name, header(text, "KEYS"), header(text, "ARGV"), source, digest)


def piece(name: str) -> str:
    """The text of a shared piece."""
    return (FOLDER / "shared" / f"{name}.lua").read_text(encoding="utf-8")


def _code(text: str) -> str:
    """The text without its comments."""
    return re.sub(r"--.*", "", text)


def _needed(shared: str, body: str) -> str:
    """Shared pieces without the functions that the body does not reach."""
    functions = {found[1]: found[0] for found in _FUNCTION.finditer(shared)}
    reached: set[str] = set()
    texts = [body, _FUNCTION.sub("", shared)]
    while texts:
        names = set(re.findall(r"\w+", texts.pop())) & functions.keys() - reached
        reached |= names
        texts += [functions[name] for name in names]
    return _FUNCTION.sub(lambda found: found[0] if found[1] in reached else "", shared)


def header(text: str, title: str) -> tuple[str, ...]:
    """The words behind ``-- TITLE:`` in a script's header; none when it has no such line."""
    found = re.search(rf"^-- {title}: (.*)$", text, re.MULTILINE)
    return tuple(found.group(1).split()) if found else ()


@masked()
class Call(NamedTuple):
    """A script with its arguments, ready to be sent.

    Attributes:
        script: Which.
        rest: What follows its hash or its text in the command.
    """

    script: Script
    rest: tuple[Any, ...]

    @property
    def by_hash(self) -> tuple[Any, ...]:
        """The command for a Redis that knows the script."""
        return ("EVALSHA", self.script.sha, *self.rest)

    @property
    def whole(self) -> tuple[Any, ...]:
        """The command for one that does not (NoScriptError)."""
        return ("EVAL", self.script.source, *self.rest)


class Calls:
    """Puts the arguments of scripts in order, for one namespace's keys.

    Args:
        keys: The namespace's keys.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._ready: dict[str, tuple[Script, tuple[str, ...]]] = {}

    def call(self, name: str, **arguments: Any) -> Call:
        """A script's call; ``arguments`` are those of its header but the prefix."""
        script, keys = self._ready.get(name) or self._prepare(name)
        values = [arguments[argument] for argument in script.arguments[1:]]
        return Call(script, (len(keys), *keys, self._keys.prefix, *values))

    def _prepare(self, name: str) -> tuple[Script, tuple[str, ...]]:
        script = load(name)
        self._ready[name] = script, tuple(getattr(self._keys, key) for key in script.keys)
        return self._ready[name]


class Scripts(Calls):
    """Runs the scripts.

    Args:
        redis: Whatever runs a command.
        keys: The namespace's keys.
    """

    def __init__(self, redis: Executor, keys: Keys) -> None:
        super().__init__(keys)
        self._redis = redis

    def run(self, name: str, **arguments: Any) -> list[Any]:
        """Run a script; see ``call``. Raises OutboxError."""
        return self.send(self.call(name, **arguments))

    def send(self, call: Call, redis: Executor | None = None) -> list[Any]:
        """Run a script whose arguments are in order, by ``redis`` if it is given; raises OutboxError."""
        redis = redis or self._redis
        with errors_mapped():
            try:
                reply: list[Any] = redis.execute_command(*call.by_hash)
            except NoScriptError:
                reply = redis.execute_command(*call.whole)
        return reply


class AsyncScripts(Calls):
    """Runs the scripts from asyncio.

    Args:
        redis: Whatever runs a command.
        keys: The namespace's keys.
    """

    def __init__(self, redis: AsyncExecutor, keys: Keys) -> None:
        super().__init__(keys)
        self._redis = redis

    async def send(self, call: Call, redis: AsyncExecutor | None = None) -> list[Any]:
        """Run a script whose arguments are in order, by ``redis`` if it is given; raises OutboxError."""
        redis = redis or self._redis
        with errors_mapped():
            try:
                reply: list[Any] = await redis.execute_command(*call.by_hash)
            except NoScriptError:
                reply = await redis.execute_command(*call.whole)
        return reply
