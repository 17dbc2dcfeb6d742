"""Calls whose errors record nothing of what was given to them.

An error reporter records the local variables of every frame of a traceback. The arguments of a call are a customer's
order, and the application's own frame often does not hold them. So our errors leave a call without our frames. A
defect, which is any other exception, keeps them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from insend_relay.outbox.errors import RelayError

P = ParamSpec("P")
T = TypeVar("T")


def without_frames(call: Callable[P, T]) -> Callable[P, T]:
    """The same method; the traceback of an InvalidEvent or NotAccepted ends here, without arguments."""

    @functools.wraps(call)
    def without(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except RelayError as error:
            raise error.with_traceback(None)  # noqa: B904 - it is the same error
        finally:
            del args, kwargs  # this frame stays in the traceback of every exception

    return without
