"""A text that an operator edits: shown in the operator's editor, and never lost while it is not used.

The text lies in a directory of its own that only the operator can enter, so that what an editor leaves beside the file
(backups, swap files) is as private, and is removed with it.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import click

_COMMENT = b"#"  # begins no line of a JSON text: a string in it holds no line break


class Draft:
    """The operator's text; use it in a ``with``. At the end it is kept, unless it was used or is as it was at first.

    Args:
        text: What the operator edits.
        name: The file's name.

    Attributes:
        text: The text as the operator left it, without the comments.
        used: Set it when the text has been used, so that it need not be kept.
    """

    def __init__(self, text: bytes, name: str) -> None:
        self.text = self._first = text.strip()
        self.used = False
        self._name = name

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="insend-"))  # mode 0700
        self._file = self._directory / self._name
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.used or self.text in (b"", self._first):
            shutil.rmtree(self._directory)
            return
        self._write(self.text)
        click.echo(f"insend: your text is kept in {self._file}, which only you can read", err=True)

    def edit(self, notes: Iterable[str]) -> bool:
        """Open the editor; False when the operator changed nothing, or left nothing.

        Args:
            notes: Sentences for the operator, shown as comments before the text.

        Raises:
            UsageError: There is no editor, or it failed.
        """
        before = self.text
        comments = [f"# {line}".encode(errors="replace") for note in notes for line in note.splitlines()]
        self._write(b"\n".join((*comments, b"", self.text)))
        with _interrupts_ignored():
            try:
                click.edit(filename=str(self._file))
            except click.ClickException as error:
                raise click.UsageError(f"{error.message}; $VISUAL or $EDITOR names the editor") from None
            finally:
                self.text = self._read()
        return self.text not in (b"", before)

    def _write(self, text: bytes) -> None:
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text + b"\n")

    def _read(self) -> bytes:
        """The text without its comments; "" when the editor removed the file."""
        try:
            lines = self._file.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return b""
        return b"".join(line for line in lines if not line.lstrip().startswith(_COMMENT)).strip()


def editor_available() -> bool:
    """Whether an editor can be opened: one is named, or there is a terminal for the usual ones."""
    return bool(os.environ.get("VISUAL") or os.environ.get("EDITOR")) or sys.stdin.isatty()


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ctrl-C belongs to the editor while it runs. It would inherit SIG_IGN; it does not inherit a handler."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
