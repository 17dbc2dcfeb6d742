"""The address of a Redis, read from its URL. All parts use this one parser: producers, commands, workers and Celery.

redis-py, its asyncio module and Celery's kombu each read a URL in their own way. An option that one of them accepts
ends another with a traceback, and a database that is no number means 0 to one and an error to another. Here an option
is supported for all of them or refused for all of them, by its name. No message quotes the URL: it may hold a password.
"""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from insend_relay.outbox.errors import SettingsError
from insend_relay.outbox.masked import masked

Kind = Literal["tcp", "tls", "unix"]
_KINDS: dict[str, Kind] = {"redis": "tcp", "rediss": "tls", "unix": "unix"}
_LOCAL = {"127.0.0.1", "localhost", "::1"}
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS_OPTIONS = (*_FILES, "ssl_cert_reqs", "ssl_check_hostname")
_VERIFY = {"required": "required", "cert_required": "required", "none": "none", "cert_none": "none"}
_SWITCH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_ENCODE = (
    "percent-encode the characters / # ? @ [ ] % and spaces in the user, the password and the options "
    "(%2F %23 %3F %40 %5B %5D %25 %20)"
)


class _Fault(Exception):
    """What is wrong with a URL, as the rest of a sentence."""


@masked("kind", "host", "port", "path", "db", "tls")
@dataclass(frozen=True, slots=True)
class RedisUrl:
    """Where a Redis is, and who we are there.

    Attributes:
        kind: ``tcp``, ``tls`` (TCP with TLS) or ``unix`` (a Unix socket).
        host: A name or an IP address, without brackets; "" for a Unix socket.
        port: 0 for a Unix socket.
        path: The Unix socket's file; "" otherwise.
        db: The number of the database.
        username: None for Redis's default user.
        password: None for no authentication.
        tls: redis-py's TLS options, with the verification always stated; empty without TLS.
    """

    kind: Kind
    host: str
    port: int
    path: str
    db: int
    username: str | None
    password: str | None
    tls: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str, variable: str = "INSEND_REDIS_URL") -> Self:
        """Read a URL.

        Args:
            text: ``redis://``, ``rediss://`` or ``unix://``.
            variable: The setting that it comes from, for the message.

        Raises:
            SettingsError: The URL is wrong. The message says what to change and quotes nothing of the URL but the name
                of an option.
        """
        try:
            return cls(**_read(text))
        except _Fault as fault:
            raise SettingsError([f"{variable}: {fault}"]) from None

    def __str__(self) -> str:
        """The place alone, for messages and logs."""
        if self.kind == "unix":
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether the connection stays on this machine."""
        return self.kind == "unix" or self.host in _LOCAL

    def connection_options(self) -> dict[str, Any]:
        """The keyword arguments of redis-py's connection classes that this URL decides."""
        place = {"path": self.path} if self.kind == "unix" else {"host": self.host, "port": self.port}
        return {**place, "db": self.db, "username": self.username, "password": self.password, **self.tls}


def _read(text: str) -> dict[str, Any]:
    kind = _KINDS.get(text.partition("://")[0]) if "://" in text else None
    if kind is None:
        raise _Fault("give an address that starts with redis://, rediss:// or unix://")
    parts = _split(text)
    options = _options(parts.query)
    place = _unix_place(parts) if kind == "unix" else _tcp_place(parts)
    return {
        "kind": kind,
        **place,
        "db": _database(options.pop("db", None), "" if kind == "unix" else parts.path),
        "username": unquote(parts.username or "") or None,
        "password": unquote(parts.password or "") or None,
        "tls": _tls(options, kind),
    }


def _split(text: str) -> SplitResult:
    """The parts of the URL, once no reserved character can have moved a piece of the password into another part."""
    rest = text.partition("://")[2]
    raw = any(not char.isprintable() or char.isspace() for char in rest) or re.search("%(?![0-9A-Fa-f]{2})", rest)
    try:
        parts = urlsplit(text)
    except ValueError:  # a bracket that is not an IPv6 address's
        raise _Fault(_ENCODE) from None
    if raw or "#" in rest or rest.count("@") > 1 or ("@" in rest and "@" not in parts.netloc):
        raise _Fault(_ENCODE)
    return parts


def _tcp_place(parts: SplitResult) -> dict[str, Any]:
    try:
        port = 6379 if parts.port is None else parts.port
    except ValueError:
        port = 0
    if not port:
        raise _Fault("the port must be a number from 1 to 65535; if it is part of the password, " + _ENCODE)
    if not parts.hostname:
        raise _Fault("it names no host: give an address such as redis://:password@127.0.0.1:6379/0")
    return {"host": unquote(parts.hostname), "port": port, "path": ""}


def _unix_place(parts: SplitResult) -> dict[str, Any]:
    if parts.hostname or parts.path in ("", "/"):
        raise _Fault("give the socket's whole path after three slashes, such as unix:///run/redis/redis.sock?db=0")
    return {"host": "", "port": 0, "path": unquote(parts.path)}


def _options(query: str) -> dict[str, str]:
    known = ("db", *_TLS_OPTIONS)
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            shown = name if re.fullmatch(r"[a-z_]{1,40}", name) else "one of its options"
            raise _Fault(f"the option {shown} is not supported; remove it (supported are {', '.join(known)})")
        if name in found or not value:
            raise _Fault(f"give the option {name} one value, or remove it")
        found[name] = value
    return found


def _database(option: str | None, path: str) -> int:
    in_path = path.removeprefix("/")
    if option and in_path and option != in_path:
        raise _Fault("it names two databases: remove the option db, or the number after the last slash")
    number = option or in_path or "0"
    if not re.fullmatch("[0-9]{1,9}", number):
        raise _Fault("the database must be a number, as in redis://127.0.0.1:6379/0")
    return int(number)


def _tls(options: dict[str, str], kind: Kind) -> dict[str, Any]:
    """redis-py's TLS options; the verification is stated, because kombu's default is none at all."""
    if kind != "tls":
        for name in options:
            raise _Fault(f"the option {name} needs TLS: use rediss://, or remove it")
        return {}
    verify = _VERIFY.get(options.get("ssl_cert_reqs", "required").lower())
    if verify is None:
        raise _Fault("ssl_cert_reqs must be required, or none to trust any server")
    check = _SWITCH.get(options.get("ssl_check_hostname", "true").lower())
    if check is None:
        raise _Fault("ssl_check_hostname must be true or false")
    files = {name: options[name] for name in _FILES if name in options}
    for name, file in files.items():
        if not (os.access(file, os.R_OK) and Path(file).is_file()):  # it would look like a Redis that is away
            raise _Fault(f"{name} names no file that this user can read on this machine")
    _check_loads(files)
    return {"ssl_cert_reqs": verify, "ssl_check_hostname": check and verify == "required", **files}


def _check_loads(files: dict[str, str]) -> None:
    """Load the files as each connection will: one that does not load would look like a Redis that is away."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if file := files.get("ssl_ca_certs"):
        try:
            context.load_verify_locations(file)
        except OSError:
            raise _Fault("ssl_ca_certs names a file without a certificate in PEM form") from None
    certificate, key = files.get("ssl_certfile"), files.get("ssl_keyfile")
    if key and not certificate:
        raise _Fault("ssl_keyfile needs ssl_certfile, the certificate of that key")
    if certificate:
        try:
            context.load_cert_chain(certificate, key, password=lambda: "")  # without a password it would ask for one
        except OSError:
            raise _Fault(
                "ssl_certfile must name a certificate, and ssl_keyfile its private key, in PEM form and not encrypted"
            ) from None
