"""Every setting, with its variable, default and meaning; the only module that reads the environment.

``Settings()`` has the defaults; ``Settings.from_env()`` reads the ``INSEND_*`` variables and raises one SettingsError
that lists every fault. An unknown ``INSEND_*`` variable is a warning in the log and never a fault: it may be a
platform's (``unknown_variables``).
``docs/settings.md`` is written from this table (``python -m insend_relay.outbox.settings``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints
from urllib.parse import urlsplit

from insend_relay.outbox.errors import SettingsError
from insend_relay.outbox.keys import APP_KEY
from insend_relay.outbox.redis_url import RedisUrl
from insend_relay.outbox.unknown_variables import PREFIX, UnknownVariable, find_unknown, warn_of

MOST = 1_000_000_000  # of any number: 31 years, if it is seconds; beyond it servers and libraries overflow
# Nothing is scheduled further ahead on Redis's clock than this. What is, was scheduled before that clock was set back,
# and a pump makes it due again (lua/pull_back.lua).
MAX_WAIT_SECONDS = 1_800  # between two attempts of a lane, or two probes of an app
MAX_LEASE_SECONDS = 300
MAX_TURN_SECONDS = 60  # of a replay; after that its message is lost, and a busy pool may keep one for 40 s


def _setting(default: Any, meaning: str, *, secret: bool = False, least: float | None = None) -> Any:
    return field(default=default, repr=not secret, metadata={"meaning": meaning, "least": least})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one relay. Each field's variable is ``INSEND_`` and its name in capitals."""

    # What is sent, and where
    app_key: str = _setting("", "The application's key at the tracker. Needed by producers.", secret=True)
    domain: str = _setting("", "The account's domain, such as shop.example.com. Needed by producers.")
    tracker_url: str = _setting("https://tracker.convead.io/watch/event", "Where the worker posts events.")

    # Where events are kept
    redis_url: str = _setting(
        "redis://127.0.0.1:6379/0",
        "The Redis that holds the outbox: redis://, rediss:// (TLS) or unix://. Its database should be ours alone. "
        "docs/deploy.md lists the options that the address may have.",
        secret=True,
    )
    namespace: str = _setting("insend", "Tells several relays in one Redis apart; part of every key.")
    broker_url: str = _setting(
        "",
        "Celery's broker, a Redis with an address of the same form. It carries hints only, never an event. "
        "Empty: the outbox's Redis.",
        secret=True,
    )

    # Producers
    enabled: bool = _setting(True, "0 switches sending off (staging): calls validate and return, nothing is kept.")
    invalid: Literal["auto", "raise", "bury"] = _setting(
        "auto",
        "A bad event: raise InvalidEvent to the caller, or bury it as a dead letter and go on. "
        "auto: bury in a web request outside debug and in Django's on_commit outside debug, else raise.",
    )
    oversize: Literal["refuse", "trim"] = _setting(
        "refuse",
        "An event of more than 64 KB breaks the rules; trim sends it without product_image_url, then product_url, then "
        "product_name, as far as that is needed to make it fit, and logs a warning.",
    )
    guest_cookie: str = _setting("convead_guest_uid", "The cookie in which a web request carries the guest's uid.")
    opt_out_cookie: str = _setting(
        "convead_track_disable", "The cookie by which a visitor says: do not track me, whatever its value."
    )
    enqueue_timeout_ms: int = _setting(250, "The longest that a call in a web request may wait for Redis.", least=1)
    idempotency_seconds: int = _setting(86_400, "How long an idempotency_key is remembered.", least=1)
    durability: Literal["memory", "fsync", "replicated"] = _setting(
        "memory",
        "How safe an event is before a call returns, beyond Redis's own answer: fsync asks whether its append-only "
        "file has reached the disk, replicated whether a replica has the event. Receipt.confirmed has the answer.",
    )
    spool: str = _setting(
        "",
        "A file on this machine's disk that keeps events while Redis cannot take them, such as "
        "/var/lib/insend-relay/spool.db. Producers and workers of one machine name the same. It holds personal data. "
        "Empty: there is none, and a call raises NotAccepted.",
    )
    spool_most_megabytes: int = _setting(1_000, "How large the spool may become.", least=1)

    # Worker
    pool: Literal["prefork", "threads", "gevent"] = _setting("prefork", "Celery's pool.")
    processes: int = _setting(
        0,
        "Pool processes under prefork. 0: one for each core that the CPU affinity and the cgroup's CPU quota allow, "
        "at most 8.",
        least=0,
    )
    concurrency: int = _setting(
        2048,
        "The most visitors whose events one process posts at the same time. It starts with 16, doubles while the "
        "tracker answers as quickly as before, and halves when that has too much to do (429, 503, no whole answer).",
        least=1,
    )
    post_timeout_seconds: float = _setting(15.0, "The deadline of one POST, from connecting to the answer.", least=0.1)
    lease_seconds: float = _setting(
        30.0,
        "How long a worker may hold a lane unheard. After a crash its lanes wait this long. "
        f"At least INSEND_POST_TIMEOUT_SECONDS + 5, at most {MAX_LEASE_SECONDS}.",
        least=1,
    )
    stop_seconds: float = _setting(
        8.0, "On SIGTERM: how long POSTs under way may finish before they are cut.", least=0.1
    )

    # Retries
    retry_first_seconds: float = _setting(1.0, "The wait after the first failure; it doubles from there.", least=0.001)
    retry_max_seconds: float = _setting(
        300.0, f"The longest wait between two attempts. With the jitter at most {MAX_WAIT_SECONDS}.", least=0.001
    )
    retry_jitter: float = _setting(0.25, "Up to this share of a wait is added at random.", least=0)
    retry_after_max_seconds: float = _setting(
        900.0, f"The longest Retry-After that is honoured. At most {MAX_WAIT_SECONDS}.", least=0
    )
    unreachable_attempts: int = _setting(
        10,
        "Unreachable tracker (refused, time-out, 407, 408, 425, 429, 502-504, a gateway's 520-527 and 530): give up "
        "after this many attempts",
        least=1,
    )
    unreachable_seconds: float = _setting(86_400.0, "... and this long since acceptance (both).", least=0)
    server_error_attempts: int = _setting(10, "Any other 5xx: give up after this many attempts", least=1)
    server_error_seconds: float = _setting(3_600.0, "... and this long since acceptance (both).", least=0)
    rejected_attempts: int = _setting(
        5,
        "Any other answer: give up after this many attempts; on 3xx, 401, 403, 404 not before "
        "INSEND_OUTAGE_CALM_SECONDS since the first.",
        least=1,
    )
    abandoned_starts: int = _setting(
        5, "An event whose worker died this often while it was being sent is buried.", least=3
    )

    # Outage guard
    outage_unreachable: int = _setting(3, "This many unreachable answers in a row pause an app.", least=1)
    outage_lanes: int = _setting(
        5, "So do failures of this many visitors with no 200 between (five times as many while calm).", least=1
    )
    outage_first_seconds: float = _setting(1.0, "The first pause; each failed probe doubles it.", least=0.001)
    outage_max_seconds: float = _setting(
        60.0, f"The longest pause between two probes. With the jitter at most {MAX_WAIT_SECONDS}.", least=0.001
    )
    outage_calm_seconds: float = _setting(
        60.0, "This long after a 200 the guard is calm: a few poisoned visitors must not pause an app.", least=0
    )
    outage_rejected_seconds: float = _setting(
        900.0, "A pause on rejections (4xx but 401, 403, 404) counts attempts again after this long.", least=0
    )

    # Replay
    replay_per_second: float = _setting(50.0, "The pace of a replay, events per second.", least=0.01)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the ``INSEND_*`` variables; SettingsError lists every fault at once, and the log the unknown ones."""
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        faults: list[str] = []
        for setting in fields(cls):
            name = variable(setting)
            if text := environ.get(name, "").strip():
                try:
                    values[setting.name] = _parse(setting, text)
                except ValueError as error:
                    faults.append(f"{name}: {error}")
        for unknown in unknown_variables(environ):
            warn_of(unknown)
        settings = cls(**values)
        faults += settings._faults()
        if faults:
            raise SettingsError(faults)
        return settings

    def _faults(self) -> list[str]:
        """What does not fit together, a sentence each."""
        faults = []
        if self.app_key and not APP_KEY.match(self.app_key):
            faults.append("INSEND_APP_KEY: use the key as the account shows it: letters, digits, - and _, at most 64")
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", self.namespace):
            faults.append("INSEND_NAMESPACE: use letters, digits, dot, - and _, at most 64")
        if not _is_web_address(self.tracker_url):
            faults.append("INSEND_TRACKER_URL: give a full address such as https://tracker.convead.io/watch/event")
        for name, url in (("INSEND_REDIS_URL", self.redis_url), ("INSEND_BROKER_URL", self.broker_url)):
            if url or name == "INSEND_REDIS_URL":
                try:
                    RedisUrl.parse(url, name)
                except SettingsError as error:
                    faults += error.faults
        if self.spool and not Path(self.spool).is_absolute():
            faults.append("INSEND_SPOOL: give the file's whole path, such as /var/lib/insend-relay/spool.db")
        return faults + self._lease_faults() + self._wait_faults()

    def _lease_faults(self) -> list[str]:
        """A lease that is shorter than a POST, or longer than the outbox allows."""
        faults = []
        if self.lease_seconds > MAX_LEASE_SECONDS:
            faults.append(f"INSEND_LEASE_SECONDS: {self.lease_seconds:g} is too long; set at most {MAX_LEASE_SECONDS}")
        if self.lease_seconds < self.post_timeout_seconds + 5:
            faults.append(
                f"INSEND_LEASE_SECONDS: {self.lease_seconds:g} is too short for POSTs of up to "
                f"{self.post_timeout_seconds:g} s; set at least {self.post_timeout_seconds + 5:g}"
            )
        return faults

    def _wait_faults(self) -> list[str]:
        """Waits that are longer than the outbox allows, with the jitter that is added to them."""
        longest = MAX_WAIT_SECONDS / (1 + self.retry_jitter)
        waits = {
            "retry_max_seconds": longest,
            "outage_first_seconds": longest,
            "outage_max_seconds": longest,
            "retry_after_max_seconds": MAX_WAIT_SECONDS,
        }
        return [
            f"INSEND_{name.upper()}: {getattr(self, name):g} is too long; set at most {most:g}: "
            f"with INSEND_RETRY_JITTER no wait may be longer than {MAX_WAIT_SECONDS} s"
            for name, most in waits.items()
            if getattr(self, name) > most
        ]


def _is_web_address(text: str) -> bool:
    """Whether a text is an HTTP URL with a host, and with a port that is a number if it has one."""
    try:
        parts = urlsplit(text)
        _ = parts.port  # ValueError when it is none
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def variable(setting: Field[Any]) -> str:
    """The name of a setting's environment variable."""
    return PREFIX + setting.name.upper()


def unknown_variables(environ: Mapping[str, str] | None = None) -> list[UnknownVariable]:
    """The ``INSEND_*`` variables that are neither settings nor plainly a platform's; by default of this process."""
    return find_unknown(os.environ if environ is None else environ, [variable(setting) for setting in fields(Settings)])


def _parse(setting: Field[Any], text: str) -> Any:
    """Turn a variable's text into the type of its setting; ValueError says what is wanted."""
    choices = _choices(setting)
    if choices:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, not {text!r}")
        return text
    return _PARSERS[str(setting.type)](setting, text)


def _choices(setting: Field[Any]) -> tuple[str, ...]:
    """What a setting may be, when it is one of a few words."""
    return get_args(get_type_hints(Settings)[setting.name])


def _parse_bool(_: Field[Any], text: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in words:
        raise ValueError(f"must be 1 or 0, not {text!r}")
    return words[text.lower()]


def _parse_number(setting: Field[Any], text: str) -> float:
    number: type[int | float] = int if setting.type == "int" else float
    try:
        value = number(text)
    except ValueError:
        whole = "a whole number" if number is int else "a number"
        raise ValueError(f"must be {whole}, not {text!r}") from None
    least = setting.metadata["least"]
    if not least <= value <= MOST:
        raise ValueError(f"must be at least {least:g} and at most {MOST:,}, not {text}")
    return value


_PARSERS: dict[str, Callable[[Field[Any], str], Any]] = {
    "str": lambda _, text: text,
    "bool": _parse_bool,
    "int": _parse_number,
    "float": _parse_number,
}


def table() -> str:
    """All settings as a Markdown table, for the docs."""
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for setting in fields(Settings):
        default = setting.default
        shown = "" if default == "" else str(int(default) if isinstance(default, bool) else default)
        choices = _choices(setting)
        meaning = setting.metadata["meaning"] + (f" One of: {', '.join(choices)}." if choices else "")
        rows.append(f"| `{variable(setting)}` | {shown} | {meaning} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(table(), end="")  # noqa: T201 - this is its purpose
