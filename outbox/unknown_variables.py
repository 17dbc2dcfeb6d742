"""``INSEND_*`` variables that are not settings: misspelt settings, and what a platform sets by itself.

Kubernetes and Docker describe each service in variables of every container: a service ``insend-tracker`` becomes
``INSEND_TRACKER_SERVICE_HOST`` and ``INSEND_TRACKER_PORT=tcp://10.0.0.7:80``. An add-on of Heroku or Vercel that is
attached as ``INSEND_REDIS`` sets ``INSEND_REDIS_TLS_URL`` beside ``INSEND_REDIS_URL``. These are passed over. Any other
unknown variable has no effect, which its author must be told: the log warns, and ``insend doctor`` has a finding.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Collection, Mapping
from functools import cache
from typing import NamedTuple

logger = logging.getLogger(__name__)

PREFIX = "INSEND_"
SIMILAR = 0.68  # difflib's min ratio, without the prefix: VERSION and OVERSIZE have 0.67, REDIS and REDIS_URL 0.71

# (the name after INSEND, the value): both have to match
_PLATFORM = tuple(
    (re.compile(name), re.compile(value))
    for name, value in (
        (r"(_[A-Z0-9_]+)?_SERVICE_HOST", r".*"),
        (r"(_[A-Z0-9_]+)?_SERVICE_PORT(_[A-Z0-9_]+)?", r"\d+"),
        (r"(_[A-Z0-9_]+)?_PORT", r"(tcp|udp|sctp)://.*"),
        (r"(_[A-Z0-9_]+)?_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?", r".*"),
        (r"(_[A-Z0-9_]+)?_TLS_URL", r".*"),
        (r"(_[A-Z0-9_]+)?_REST(_API)?_(URL|TOKEN|READ_ONLY_TOKEN)", r".*"),
    )
)


class UnknownVariable(NamedTuple):
    """A variable that has our prefix and is no setting; its text never has the value, which may be a password.

    Attributes:
        name: The variable's name.
        near: The setting's variable that has the most similar name; "" when none is similar.
    """

    name: str
    near: str

    def __str__(self) -> str:
        meant = f"; did you mean {self.near}?" if self.near else ""
        return f"{self.name} is not a setting and has no effect{meant}"


def find_unknown(environ: Mapping[str, str], known: Collection[str]) -> list[UnknownVariable]:
    """The unknown variables of an environment that are not empty and not plainly a platform's.

    Args:
        environ: Names and values.
        known: The settings' variables.
    """
    return [
        UnknownVariable(name, _nearest(name, known))
        for name, value in environ.items()
        if name.startswith(PREFIX) and name not in known and value.strip() and not _is_platforms(name, value.strip())
    ]


@cache
def warn_of(unknown: UnknownVariable) -> None:
    """Log it, once in a process: settings are read several times."""
    logger.warning("%s", unknown)


def _is_platforms(name: str, value: str) -> bool:
    rest = name.removeprefix(PREFIX.rstrip("_"))
    return any(names.fullmatch(rest) and values.fullmatch(value) for names, values in _PLATFORM)


def _nearest(name: str, known: Collection[str]) -> str:
    longer_than = [setting for setting in known if name.startswith(setting + "_")]  # SPOOL_PATH, for SPOOL
    if longer_than:
        return max(longer_than, key=len)
    settings = [setting.removeprefix(PREFIX) for setting in known]
    near = difflib.get_close_matches(name.removeprefix(PREFIX), settings, n=1, cutoff=SIMILAR)
    return PREFIX + near[0] if near else ""
