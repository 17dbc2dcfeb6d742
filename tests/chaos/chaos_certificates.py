"""The tracker's certificates in a chaos run: a good one, and those that nobody may trust."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

GOOD = "good"
BAD = ("of another authority", "of another host", "expired")


def contexts(host: str, authority_file: Path) -> dict[str, ssl.SSLContext]:
    """A server's context for each certificate; writes the authority that is to be trusted.

    Args:
        host: The tracker's name.
        authority_file: Where to write it, as PEM.
    """
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(authority_file))
    past = datetime.now(UTC) - timedelta(hours=1)
    certificates = {
        GOOD: authority.issue_cert(host),
        "of another authority": stranger.issue_cert(host),
        "of another host": authority.issue_cert("elsewhere.example.net"),
        "expired": authority.issue_cert(host, not_before=past - timedelta(days=1), not_after=past),
    }
    made = {}
    for name, certificate in certificates.items():
        made[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(made[name])
    return made
