"""How a run of ``insend`` ends: every exception that a user or the environment can cause, its text and exit code.

    0   ok
    1   a finding: a person is needed to deliver, a replayed event came back, an erasure is incomplete
    2   the command, a setting, an event or a file is not usable as given
    3   Redis cannot be reached, is full or refuses us
    130 interrupted
    141 whoever read our output has gone (as a shell reports SIGPIPE)

A worker that has started ends with Celery's exit code, or with 70 when it cannot work (docs/cli.md has a table).
Any other exception is a mistake of ours and keeps its traceback.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

import click

from insend_relay.outbox.errors import (
    InvalidEvent,
    NotAccepted,
    OutboxError,
    OutboxUnreachable,
    RelayError,
    SettingsError,
)

FINDING, USAGE, UNREACHABLE, INTERRUPTED, READER_GONE = 1, 2, 3, 130, 141


def leave(error: BaseException) -> NoReturn:
    """End the run that ``error`` has stopped; raises it again when it is none that we know."""
    if isinstance(error, BrokenPipeError):
        # What is left in the buffers has no reader either, and Python would say so at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(READER_GONE)
    code, text = explain(error)
    if code is None:
        raise error
    if text:
        click.echo(f"insend: {text}", err=True)
    raise click.exceptions.Exit(code)


def explain(error: BaseException) -> tuple[int | None, str]:
    """The exit code and the text for an exception; code None when it is not for us to explain."""
    for kinds, code, text in _ENDS:
        if isinstance(error, kinds):
            return code, text(error)
    return None, ""


def _listed(title: str, faults: Iterable[str]) -> str:
    return "\n  ".join([title, *faults])


# The first match counts: subclasses stand before their parents.
_ENDS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], int, Callable[[Any], str]], ...] = (
    ((KeyboardInterrupt, click.Abort), INTERRUPTED, lambda _: "interrupted"),
    (SettingsError, USAGE, lambda error: _listed("these settings are wrong:", error.faults)),
    (InvalidEvent, USAGE, lambda error: _listed("nothing was sent:", (": ".join(fault) for fault in error.faults))),
    (
        OutboxUnreachable,
        UNREACHABLE,
        lambda error: (
            f"{error}\n  Is Redis running, and does INSEND_REDIS_URL point to it?\n  INSEND_REDIS_URL begins with "
            "rediss:// for a port that speaks TLS, with redis:// for one that does not."
        ),
    ),
    ((OutboxError, NotAccepted), UNREACHABLE, str),
    (RelayError, USAGE, str),
    (OSError, USAGE, lambda error: f"{error.filename}: {error.strerror}" if error.filename else str(error)),
)


@contextlib.contextmanager
def needs(extra: str, *modules: str) -> Iterator[None]:
    """Imports inside may fail for want of an extra of ours: then say which one to install.

    Args:
        extra: The extra's name.
        modules: The top-level modules that come with it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in modules:
            raise
        raise click.UsageError(f"this needs the {extra}: pip install 'insend-relay[{extra}]'") from error
