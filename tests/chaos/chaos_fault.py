"""What a fault is, and the list of all: the modules ``chaos_faults`` and ``chaos_*_faults`` fill it."""

from __future__ import annotations

from collections.abc import Callable

from chaos_run import Run

Fault = Callable[[Run], None]
FAULTS: dict[str, Fault] = {}


def fault(name: str) -> Callable[[Fault], Fault]:
    """Give a fault its name, which begins with what it breaks."""

    def named(act: Fault) -> Fault:
        FAULTS[name] = act
        return act

    return named
