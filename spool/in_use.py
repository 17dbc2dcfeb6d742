"""Counts what is in use, without a lock, and without what an exception has lost between two steps."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class InUse(Generic[T]):
    """Objects that count as long as they exist.

    A signal handler may raise an exception at any point, also between taking an object and the ``try`` that gives it
    back. Then the object is freed, and leaves by itself.
    """

    def __init__(self) -> None:
        self._objects: dict[int, weakref.ref[T]] = {}

    def add(self, one: T) -> None:
        """Count an object, until it is discarded or freed."""
        number, objects = id(one), self._objects
        objects[number] = weakref.ref(one, lambda _: objects.pop(number, None))

    def discard(self, one: T) -> None:
        """Count it no more."""
        self._objects.pop(id(one), None)

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[T]:
        return iter([one for reference in list(self._objects.values()) if (one := reference()) is not None])
