"""The walks in docs/architecture.md name files and functions that exist, and are short."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
WALKS = dict(re.findall(r"^### (The walk of [^\n]+)\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL))
MAX_LINES = 15


def named_in(walk: str) -> list[tuple[str, str]]:
    """The files that a walk names, and the function or class in each, "" for a whole file."""
    return re.findall(r"`([a-z_/]+\.(?:py|lua))(?::([\w.]+))?`", walk)


def names_in(path: Path) -> set[str]:
    """What a file defines: functions and classes, and methods as Class.method."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".lua":
        return set(re.findall(r"^local function (\w+)", text, re.MULTILINE))
    return set(definitions(ast.parse(text), ""))


def definitions(node: ast.AST, prefix: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield prefix + child.name
            yield from definitions(child, f"{prefix}{child.name}.")


@pytest.mark.parametrize("walk", WALKS)
def test_a_walk_names_what_exists_and_is_short(walk: str) -> None:
    assert len(WALKS[walk].strip().splitlines()) <= MAX_LINES
    hops = named_in(WALKS[walk])
    assert len(hops) > 3
    for file, name in hops:
        assert (ROOT / file).is_file(), file
        assert not name or name in names_in(ROOT / file), f"{file}:{name}"


def test_the_four_walks_are_there() -> None:
    assert WALKS.keys() == {f"The walk of {what}" for what in ("a 200", "a 500", "a poison message", "a replay")}
