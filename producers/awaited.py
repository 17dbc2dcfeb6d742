"""Calls that return a coroutine say that they are coroutine functions.

A library that calls a function later, such as Starlette's ``BackgroundTasks``, asks for that. Otherwise it calls the
function in a thread and drops the coroutine, and with it the event.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
import types
from typing import Any, TypeVar

from insend_relay.producers.events import Events

C = TypeVar("C", bound=type)
_CALLS = ("__call__", *(name for name in vars(Events) if not name.startswith("_")))


def awaited(cls: C) -> C:
    """Mark the calls of a class. They are the same code as those of ``InSend``, as functions of their own."""
    for name in _CALLS:
        setattr(cls, name, _marked(getattr(cls, name)))
    return cls


def _marked(call: Any) -> Any:
    copied = types.FunctionType(call.__code__, call.__globals__, call.__name__, call.__defaults__, call.__closure__)
    functools.update_wrapper(copied, call)
    copied.__kwdefaults__ = call.__kwdefaults__
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(copied)
    copied._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]  # noqa: SLF001 - as asgiref does
    return copied
