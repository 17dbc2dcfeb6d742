"""One parser reads the address of a Redis for all parts, and its messages show nothing of a password."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from insend_relay.outbox.connection import connect
from insend_relay.outbox.errors import SettingsError
from insend_relay.outbox.redis_url import RedisUrl
from insend_relay.producers.async_address import AsyncAddress
from insend_relay.producers.deadline import TimedAddress

SECRET = "hunter2"


def fault(text: str) -> str:
    """What is wrong with a URL."""
    with pytest.raises(SettingsError) as refused:
        RedisUrl.parse(text, "INSEND_BROKER_URL")
    (only,) = refused.value.faults
    assert only.startswith("INSEND_BROKER_URL: ")
    return only


@pytest.mark.parametrize(
    ("text", "place", "db", "who"),
    [
        ("redis://h", "h:6379", 0, (None, None)),
        ("redis://h/", "h:6379", 0, (None, None)),
        ("redis://h:7000/3", "h:7000", 3, (None, None)),
        ("redis://h:7000?db=3", "h:7000", 3, (None, None)),
        ("redis://h:7000/3?db=3", "h:7000", 3, (None, None)),
        ("redis://[::1]:7000/3", "[::1]:7000", 3, (None, None)),
        ("redis://:hunter2@h", "h:6379", 0, (None, "hunter2")),
        ("redis://me:hunter2@h", "h:6379", 0, ("me", "hunter2")),
        ("redis://me:a:b%2F%23%3F%40%25@h", "h:6379", 0, ("me", "a:b/#?@%")),
        ("redis://m%40e:%D0%BF@h", "h:6379", 0, ("m@e", "п")),
        ("unix:///run/redis.sock", "/run/redis.sock", 0, (None, None)),
        ("unix://me:hunter2@/run/redis.sock?db=2", "/run/redis.sock", 2, ("me", "hunter2")),
    ],
)
def test_a_url_is_read(text: str, place: str, db: int, who: tuple[str | None, str | None]) -> None:
    url = RedisUrl.parse(text)
    assert (str(url), url.db, (url.username, url.password)) == (place, db, who)
    assert SECRET not in repr(url)


@pytest.mark.parametrize(
    ("text", "tls"),
    [
        ("redis://h", {}),
        ("rediss://h", {"ssl_cert_reqs": "required", "ssl_check_hostname": True}),
        ("rediss://h?ssl_cert_reqs=CERT_REQUIRED", {"ssl_cert_reqs": "required", "ssl_check_hostname": True}),
        ("rediss://h?ssl_cert_reqs=none", {"ssl_cert_reqs": "none", "ssl_check_hostname": False}),
        ("rediss://h?ssl_check_hostname=false", {"ssl_cert_reqs": "required", "ssl_check_hostname": False}),
    ],
)
def test_the_verification_of_the_server_is_always_stated(text: str, tls: dict[str, Any]) -> None:
    assert RedisUrl.parse(text).tls == tls


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """The option of each file of certificates, with a file that will do."""
    authority = trustme.CA()
    client = authority.issue_cert("client.example.net")
    files = {name: str(tmp_path / f"our {name}.pem") for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")}
    authority.cert_pem.write_to_path(files["ssl_ca_certs"])
    client.cert_chain_pems[0].write_to_path(files["ssl_certfile"])
    client.private_key_pem.write_to_path(files["ssl_keyfile"])
    return files


def with_files(files: dict[str, str]) -> str:
    """A URL with these options."""
    return f"rediss://h?{urlencode(files)}"


def test_files_of_certificates_are_options(files: dict[str, str]) -> None:
    tls = RedisUrl.parse(with_files(files)).tls
    assert tls == {"ssl_cert_reqs": "required", "ssl_check_hostname": True, **files}


@pytest.mark.parametrize("name", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
def test_a_file_of_an_option_must_be_there(files: dict[str, str], tmp_path: Path, name: str) -> None:
    Path(files[name]).unlink()
    assert f"{name} names no file that this user can read" in fault(with_files(files))
    assert f"{name} names no file" in fault(with_files({**files, name: str(tmp_path)}))


@pytest.mark.parametrize("text", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"])
@pytest.mark.parametrize("name", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
def test_a_file_that_holds_no_certificate_is_a_fault_of_the_setting(
    files: dict[str, str], name: str, text: str
) -> None:
    Path(files[name]).write_text(text)
    assert f": {'ssl_ca_certs names' if name == 'ssl_ca_certs' else 'ssl_certfile must name'} a " in fault(
        with_files(files)
    )


def test_a_certificate_and_a_key_must_belong_together(files: dict[str, str]) -> None:
    trustme.CA().issue_cert("other.example.net").private_key_pem.write_to_path(files["ssl_keyfile"])
    assert "ssl_keyfile its private key" in fault(with_files(files))
    assert "ssl_keyfile needs ssl_certfile" in fault(with_files({"ssl_keyfile": files["ssl_keyfile"]}))


def test_a_key_with_a_password_is_refused_and_not_asked_for(files: dict[str, str]) -> None:
    key = load_pem_private_key(Path(files["ssl_keyfile"]).read_bytes(), None)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(SECRET.encode()))
    Path(files["ssl_keyfile"]).write_bytes(secret)
    assert "not encrypted" in fault(with_files(files))


@pytest.mark.parametrize("char", list("/#?@[]% \t\n"))
@pytest.mark.parametrize("url", ["redis://:{}@h:6379/0", "rediss://me:{}@h", "redis://{}:pw@h", "unix://:{}@/run/s"])
@pytest.mark.parametrize("word", ["hunter2{}secret", "{}hunter2secret", "hunter2secret{}", "12{}hunter2"])
def test_a_reserved_character_in_a_password_is_to_be_encoded_and_nothing_of_it_is_shown(
    char: str, url: str, word: str
) -> None:
    said = fault(url.format(word.format(char)))
    assert "percent-encode" in said
    assert not any(piece in said for piece in ("hunter2", "secret", "me:", "12"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "give an address that starts with redis://"),
        ("127.0.0.1:6379", "give an address that starts with redis://"),
        ('"redis://127.0.0.1"', "give an address that starts with redis://"),
        ("http://h", "give an address that starts with redis://"),
        ("redis+socket:///s", "give an address that starts with redis://"),
        ("redis://", "it names no host"),
        ("redis:///0", "it names no host"),
        ("redis://h:0", "the port must be a number"),
        ("redis://h:99999", "the port must be a number"),
        ("redis://h/cache", "the database must be a number"),
        ("redis://h/1/2", "the database must be a number"),
        ("redis://h?db=-1", "the database must be a number"),
        ("redis://h/1?db=2", "it names two databases"),
        ("unix://", "after three slashes"),
        ("unix://run/redis.sock", "after three slashes"),
        ("redis://h?db=1&db=2", "give the option db one value"),
        ("redis://h?db=", "give the option db one value"),
        ("redis://h?ssl_ca_certs=/ca.pem", "the option ssl_ca_certs needs TLS"),
        ("unix:///s?ssl_cert_reqs=none", "the option ssl_cert_reqs needs TLS"),
        ("rediss://h?ssl_cert_reqs=maybe", "ssl_cert_reqs must be required"),
        ("rediss://h?ssl_check_hostname=maybe", "ssl_check_hostname must be true or false"),
        ("redis://h?hunter2", "one of its options is not supported"),
        ("redis://h?Hunter2=1", "one of its options is not supported"),
    ],
)
def test_a_wrong_url_says_what_to_change(text: str, words: str) -> None:
    said = fault(text)
    assert words in said
    assert SECRET not in said.lower()


@pytest.mark.parametrize(
    "option",
    [
        "socket_timeout=1",
        "socket_connect_timeout=1",
        "timeout=1",
        "health_check_interval=5",
        "protocol=3",
        "client_name=shop",
        "max_connections=4",
        "retry_on_timeout=yes",
        "retry_on_error=1",
        "decode_responses=true",
        "socket_keepalive=1",
        "legacy_responses=1",
        "username=me",
        "password=hunter2",
        "ssl_min_version=3",
        "ssl_ca_path=/etc",
        "ssl_ciphers=ALL",
        "virtual_host=1",
        "credential_provider=os.system",
        "no_such_option=1",
    ],
)
def test_an_option_is_refused_by_its_name_in_every_part(option: str) -> None:
    text = f"rediss://h/0?{option}"
    said = fault(text)
    assert f"the option {option.partition('=')[0]} is not supported; remove it" in said
    assert SECRET not in said
    for part in (connect, TimedAddress, lambda url: AsyncAddress(url, None, ())):
        with pytest.raises(SettingsError, match="INSEND_REDIS_URL: the option"):
            part(text)


@pytest.mark.parametrize("text", ["redis://me:a%40b@[::1]:7000/3", "rediss://:pw@h?db=2", "unix://:pw@/s?db=2"])
def test_commands_and_both_kinds_of_producers_connect_alike(text: str) -> None:
    expected = RedisUrl.parse(text).connection_options()
    with connect(text) as client:
        sync = client.connection_pool.make_connection()
    for connection in (sync, TimedAddress(text).connection(), AsyncAddress(text, None, ()).connection()):
        for name in ("host", "port", "path", "db", "username", "password"):
            if name in expected:
                assert getattr(connection, name) == expected[name]
        if expected.get("ssl_cert_reqs"):
            assert connection.check_hostname
            assert connection.cert_reqs.name == "CERT_REQUIRED"
