"""A repr without values, for objects that hold personal data.

Error reporters record the local variables of each frame by their repr. Sentry looks into tuples and lists itself,
unless their type has ``__sentry_repr__``. Types and sizes are enough to read such a report.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

C = TypeVar("C", bound=type)


def masked(*shown: str) -> Callable[[C], C]:
    """Give a NamedTuple or a dataclass a repr of types and sizes.

    Args:
        shown: The fields whose values are shown: those that hold nothing personal, such as an event's id.
    """

    def decorate(cls: C) -> C:
        def masked_repr(self: Any) -> str:
            parts = (f"{name}={_part(getattr(self, name), shown=name in shown)}" for name in _names(cls))
            return f"{type(self).__name__}({', '.join(parts)})"

        cls.__repr__ = masked_repr  # type: ignore[assignment]
        cls.__sentry_repr__ = masked_repr  # type: ignore[attr-defined]
        return cls

    return decorate


def _names(cls: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(cls)) if is_dataclass(cls) else cls._fields


def _part(value: object, *, shown: bool) -> str:
    if value is None:
        return "None"
    if shown:
        return str(value) if type(value).__module__ != "builtins" else repr(value)
    if hasattr(type(value), "__sentry_repr__"):
        return repr(value)  # it is masked itself
    kind = type(value).__name__
    return f"<{kind}[{len(value)}]>" if isinstance(value, (str, bytes, list, tuple, dict)) else f"<{kind}>"
