"""From a web framework's configuration to ours, and from its command line to the ``insend`` command.

The console stands above the producers, and a web application does not load it: it is opened here, by its name, when one
of its commands is run.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, NoReturn

_COMMANDS = "insend_relay.console.commands"
_PROGRAM = f"from {_COMMANDS}.main import main; main()"


def as_variable(value: object) -> str:
    """What a setting of a framework would be as an environment variable; TypeError when it cannot be one.

    None is the default, whatever the environment says.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, str | int | float | Decimal):
        return str(value)
    raise TypeError(f"give text, a number, True or False, not a {type(value).__name__}")


def commands(module: str = "main") -> Any:
    """A module of the ``insend`` command."""
    return importlib.import_module(f"{_COMMANDS}.{module}")


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """These variables in the environment, where ``insend`` reads its settings."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def become_insend(arguments: Sequence[str], variables: Mapping[str, str]) -> NoReturn:
    """Turn this process into ``insend``: a worker needs nothing of the framework, and under gevent its own order."""
    sys.stdout.flush()
    # -P: as for the insend script, the current folder is no place to import from
    command = [sys.executable, "-P", "-c", _PROGRAM, *arguments]
    os.execve(sys.executable, command, {**os.environ, **variables})  # noqa: S606 - ourselves, with no shell
