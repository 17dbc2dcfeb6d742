"""An option whose value is a JSON object: on the command line, from a file (``@name``), or from stdin (``-``)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from insend_relay.producers.json_reader import read_object


class JsonObject(click.ParamType[dict[str, Any]]):
    """The object, with its fractions exact. A file and stdin keep personal data out of the process list."""

    name = "JSON|@FILE|-"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the object; a usage error says what is wrong with it."""
        if value == "-":
            value = sys.stdin.buffer.read()
        elif value.startswith("@"):
            value = Path(value[1:]).read_bytes()
        try:
            return read_object(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
