"""Each script's header, its body and the Python that calls it say the same, for every script that there is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import insend_relay.operations
import insend_relay.outbox
import insend_relay.spool
from insend_relay.outbox import scripts
from insend_relay.outbox.connection import connect
from insend_relay.outbox.keys import Keys

NAMES = sorted(path.stem for path in scripts.FOLDER.glob("*.lua"))
PIECES = sorted(path.stem for path in (scripts.FOLDER / "shared").glob("*.lua"))
MAY_NEED_MEMORY_FIRST = {"append", "bury_invalid"}  # they take something in: a full Redis must refuse them, and wholly
READ_ONLY = {"recount"}

FREEING = {"ZREM", "LPOP", "RPOP", "HDEL", "DEL"}
WRITING = {"HSET", "HSETNX", "HINCRBY", "ZADD", "RPUSH", "LPUSH", "SET", "SADD", "PEXPIRE", "LREM", "INCR"}
WRITING |= {"ZREMRANGEBYRANK", "ZREMRANGEBYSCORE", "SREM", "LTRIM", *FREEING}
READING = {"GET", "HGET", "HMGET", "HGETALL", "HEXISTS", "HLEN", "LINDEX", "LLEN", "LRANGE", "TIME", "EXISTS"}
READING |= {"LPOS", "PTTL", "ZREVRANGEBYSCORE", "ZRANGEBYSCORE", "ZSCORE", "ZCARD", "ZRANGE", "SISMEMBER", "SCARD"}
LUA_WORDS = {"and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local", "nil"}
LUA_WORDS |= {"not", "or", "repeat", "return", "then", "true", "until", "while"}
LUA_GIVES = {"redis", "struct", "string", "math", "table", "tonumber", "tostring", "ipairs", "pairs", "unpack", "type"}
LUA_GIVES |= {"error", "next"}
FUNCTION = re.compile(r"^local function (\w+)\(([^)]*)\)\n(.*?)^end$", re.MULTILINE | re.DOTALL)
CALL = re.compile(r"redis\.call\(\s*(?:'(\w+)')?|\b([a-z_]\w*)\(")
CALLERS = (insend_relay.outbox, insend_relay.spool, insend_relay.operations)
FIXED_KEYS = {name for name, value in vars(Keys()).items() if isinstance(value, str)} - {"namespace", "prefix"}


def text_of(name: str) -> str:
    return (scripts.FOLDER / f"{name}.lua").read_text(encoding="utf-8")


def code_of(text: str) -> str:
    """The text without its comments."""
    return re.sub(r"--.*$", "", text, flags=re.MULTILINE)


class Body:
    """A script's own lines and the functions that it can reach, its shared pieces included."""

    def __init__(self, name: str) -> None:
        source = code_of(scripts.load(name).source)
        self.parameters: dict[str, set[str]] = {}
        self.functions: dict[str, str] = {}
        for function, parameters, lines in FUNCTION.findall(source):
            self.parameters[function] = set(re.findall(r"\w+", parameters))
            self.functions[function] = lines
        main = re.sub(r"^local [\w, ]+ = unpack\((KEYS|ARGV)\)$", "", FUNCTION.sub("", source), flags=re.MULTILINE)
        self.main = main
        self.reached = self._reach(main, set())

    def _reach(self, text: str, seen: set[str]) -> set[str]:
        for function in set(re.findall(r"\b(\w+)\(", text)) & set(self.functions) - seen:
            seen.add(function)
            self._reach(self.functions[function], seen)
        return seen

    def reads(self) -> set[str]:
        """Every name that is read from outside the function (or the lines) in which it stands."""
        found = free_names(self.main, set())
        for function in self.reached:
            found |= free_names(self.functions[function], self.parameters[function])
        return found - set(self.functions)

    def commands(self, text: str) -> Iterator[str]:
        """The commands of some lines, in the order in which they run, functions opened up where they are called."""
        for command, function in CALL.findall(text):
            if command:
                yield command
            elif function in self.functions:
                yield from self.commands(self.functions[function])


def free_names(text: str, parameters: set[str]) -> set[str]:
    """The names in some Lua lines but keywords, what Lua gives, fields, and the names that the lines set themselves."""
    bare = re.sub(r"\.\w+", "", re.sub(r"'[^']*'", "''", text.replace("..", " ")))
    bare = re.sub(r"^( +)\w+ = (.*,)$", r"\1\2", bare, flags=re.MULTILINE)  # the fields of a table, one a line
    own = set(parameters)
    for names in re.findall(r"\blocal ([\w, ]+)|\bfor ([\w, ]+?) (?:in|=)", bare):
        own |= set(re.findall(r"\w+", " ".join(names)))
    for parameters_within in re.findall(r"\blocal function \w+\(([\w, ]*)\)", bare):
        own |= set(re.findall(r"\w+", parameters_within))
    return {word for word in re.findall(r"\b[A-Za-z_]\w*", bare) if word not in LUA_WORDS | LUA_GIVES | own}


def test_there_is_something_to_check() -> None:
    assert {"append", "claim", "settle", "fail", "bury", "release", "replay", "discard"} <= set(NAMES)
    assert {"clock", "lane"} <= set(PIECES)


@pytest.mark.parametrize("name", NAMES)
def test_a_header_says_purpose_keys_arguments_returns_and_invariant(name: str) -> None:
    head = text_of(name).split("\n-- body\n")[0]
    assert re.match(rf"-- {name}: \S.{{20,}}", head), "the first line is `-- name: purpose`"
    for title in ("KEYS", "ARGV", "Returns", "Invariant", "Shared"):
        assert len(re.findall(rf"^-- {title}: \S", head, re.MULTILINE)) == 1, title
    assert scripts.header(head, "ARGV")[0] == "prefix"
    assert set(scripts.header(head, "KEYS")) <= FIXED_KEYS


@pytest.mark.parametrize("name", NAMES)
def test_the_locals_are_the_header_and_nothing_else_touches_keys_and_argv(name: str) -> None:
    code = code_of(scripts.load(name).source)
    script = scripts.load(name)
    assert f"local {', '.join(script.keys)} = unpack(KEYS)\n" in code
    assert f"local {', '.join(script.arguments)} = unpack(ARGV)\n" in code
    assert re.findall(r"\bKEYS\b", code) == ["KEYS"]
    assert re.findall(r"\bARGV\b", code) == ["ARGV"]


@pytest.mark.parametrize("name", NAMES)
def test_every_declared_key_and_argument_is_read_by_what_runs(name: str) -> None:
    script = scripts.load(name)
    unread = {*script.keys, *script.arguments[1:]} - Body(name).reads()  # the prefix comes with every call
    assert not unread


@pytest.mark.parametrize("name", NAMES)
def test_what_runs_reads_nothing_that_nobody_set(name: str) -> None:
    script, body = scripts.load(name), Body(name)
    set_by_main = set(re.findall(r"\w+", " ".join(re.findall(r"\blocal ([\w, ]+)", body.main))))
    strangers = body.reads() - {*script.keys, *script.arguments} - set_by_main
    assert not strangers, "Redis would fail on these names, and only when it gets there"


@pytest.mark.parametrize("name", NAMES)
def test_only_commands_of_known_and_bounded_cost_are_used(name: str) -> None:
    body = Body(name)
    used = set(body.commands(body.main))
    for function in body.reached:
        used |= set(body.commands(body.functions[function]))
    assert used <= WRITING | READING, "KEYS and SCAN stop everybody; a new command joins one of the lists above"
    assert len(re.findall(r"redis\.call\(", scripts.load(name).source)) == len(
        re.findall(r"redis\.call\(\s*'[A-Z]+'", scripts.load(name).source)
    ), "commands are written out"
    refused = re.findall(r"pcall\([^)]*\)", scripts.load(name).source)
    assert set(refused) <= {"pcall('HINCRBY', key, field, by)"}, "only a sum that overflows is no error"


@pytest.mark.parametrize("name", sorted(set(NAMES) - MAY_NEED_MEMORY_FIRST))
def test_the_first_write_frees_memory_so_that_a_full_redis_drains(name: str) -> None:
    body = Body(name)
    first = next((command for command in body.commands(body.main) if command in WRITING), None)
    assert first in FREEING or (first is None and name in READ_ONLY)


@pytest.mark.parametrize("name", NAMES)
def test_refusals_come_before_the_first_write(name: str) -> None:
    body = Body(name)
    words = "SUPERSEDED|GONE|BUSY|INVALID|CLOSED|CHANGED|ALREADY"
    refusals = list(re.finditer(rf"return \{{(?:status|'(?:{words})').*$", body.main, re.MULTILINE))
    before = body.main[: refusals[-1].start()] if refusals else ""
    before = re.sub(r"return \{.*$", "", before, flags=re.MULTILINE)  # it ends there: what it writes is another path
    assert not set(body.commands(before)) & WRITING


def test_each_script_is_called_with_exactly_the_arguments_of_its_header() -> None:
    modules = [path for package in CALLERS for path in Path(package.__file__ or "").parent.glob("*.py")]
    calls = {name: arguments for path in modules for name, arguments in calls_in(path)}
    assert sorted(calls) == NAMES, "every file of lua/ has a caller, every caller a file"
    for name, arguments in calls.items():
        assert sorted(arguments) == sorted(scripts.load(name).arguments[1:]), name


def calls_in(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The scripts that a module runs, with the argument names it gives: ``run("name", ...)`` or ``run(verb, ...)``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
            if not (isinstance(call.func, ast.Attribute) and call.func.attr in {"_run", "run", "call"} and call.args):
                continue
            arguments = [keyword.arg for keyword in call.keywords if keyword.arg]
            match call.args[0]:
                case ast.Constant(value=str(name)):
                    yield name, arguments
                case ast.Name(id=parameter) if parameter in [a.arg for a in function.args.args]:
                    yield from ((name, [*arguments, *more]) for name, more in passed_on(tree, function))


def passed_on(tree: ast.Module, method: ast.FunctionDef) -> Iterator[tuple[str, list[str]]]:
    """What a module gives a method of its own that runs the script named first: the name, and its ``**more``."""
    own = {argument.arg for argument in (*method.args.args, *method.args.kwonlyargs)}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if isinstance(call.func, ast.Attribute) and call.func.attr == method.name:
            match call.args[0]:
                case ast.Constant(value=str(name)):
                    yield name, [keyword.arg for keyword in call.keywords if keyword.arg and keyword.arg not in own]


def test_every_shared_piece_is_used_and_stands_behind_what_it_needs() -> None:
    used: set[str] = set()
    for name in NAMES:
        pieces = scripts.header(text_of(name), "Shared")
        used |= set(pieces)
        for at, piece in enumerate(pieces):
            first_line = (scripts.FOLDER / "shared" / f"{piece}.lua").read_text(encoding="utf-8").splitlines()[0]
            assert first_line.startswith(f"-- {piece}: ")
            needs = re.search(r"Needs: ([\w, ]+)\.", first_line)
            assert set(needs.group(1).split(", ") if needs else ()) <= set(pieces[:at]), (name, piece)
    assert sorted(used) == PIECES


@pytest.mark.parametrize("name", NAMES)
def test_a_script_includes_no_shared_piece_of_which_it_runs_nothing(name: str) -> None:
    wanted = set(re.findall(r"\w+", code_of(text_of(name))))
    for piece in reversed(scripts.header(text_of(name), "Shared")):
        text = (scripts.FOLDER / "shared" / f"{piece}.lua").read_text(encoding="utf-8")
        offered = set(re.findall(r"^local (?:function )?(\w+)", text, re.MULTILINE))
        assert offered & wanted, piece
        wanted |= set(re.findall(r"\w+", code_of(text)))


@pytest.mark.parametrize("name", NAMES)
def test_a_server_knows_the_script_by_our_hash(name: str, either_url: str) -> None:
    script = scripts.load(name)
    with connect(either_url) as client:
        assert client.script_load(script.source) == script.sha
