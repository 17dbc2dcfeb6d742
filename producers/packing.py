"""What a command may be made of before redis-py packs it."""

from __future__ import annotations

from typing import Any


def as_texts(command: tuple[Any, ...]) -> list[str | bytes]:
    """A command whose numbers are texts.

    hiredis turns numbers into texts itself, and crashes the process when that fails. It fails when a signal handler
    raises an exception at that moment, such as the application's time limit: ``str`` runs signal handlers.
    """
    return [word if isinstance(word, (str, bytes)) else str(word) for word in command]
