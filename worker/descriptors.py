"""How many files and connections a process may have open: of 1,024, as shells have it, connections soon use up all."""

from __future__ import annotations

import resource


def enough_for(number: int) -> int:
    """Raise the soft limit of this process, and of those that it starts, as far as it takes and as the hard one allows.

    Args:
        number: How many files and connections there may come to be.

    Returns:
        How many of them there can be: ``number``, or less where the hard limit is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _covers(soft, number):
        return number
    wanted = number if _covers(hard, number) else hard
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # the kernel's own limit (macOS), or a sandbox that forbids it
        return soft
    return wanted


def _covers(limit: int, number: int) -> bool:
    return limit == resource.RLIM_INFINITY or limit >= number
