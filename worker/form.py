"""The body of an event's POST: application/x-www-form-urlencoded, as ``quote_plus`` does it, only faster."""

from __future__ import annotations

from insend_relay.outbox.keys import uid_bytes
from insend_relay.outbox.record import NotARecord, Record

_SAFE = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~"
_ESCAPES = ["+" if byte == ord(" ") else chr(byte) if byte in _SAFE else f"%{byte:02X}" for byte in range(256)]
_OFTEN = b' ",/:[]{}\\'  # what JSON in ASCII is made of besides
_EASY = _SAFE + _OFTEN
_REPLACEMENTS = [(bytes([byte]), _ESCAPES[byte].encode()) for byte in _OFTEN]


def form(lane: str, record: Record) -> bytes:
    """app_key, the uid or both, and the data object.

    Args:
        lane: The name of the event's lane, from which the app key comes, and the uid unless the record holds it.
        record: The event.

    Raises:
        NotARecord: It is no event but a webhook, which this release does not send.
    """
    if record.facts.kind != "event":
        raise NotARecord(f"a {record.facts.kind}; this release sends events only")
    app, kind, encoded = lane.split("/")
    # The uid in a lane's name is quoted as in a form.
    uid = quoted(uid_bytes(record.uid)) if record.uid else encoded.encode()
    parts = [b"app_key=", app.encode(), b"&visitor_uid=" if kind == "v" else b"&guest_uid=", uid]
    if record.guest_uid:
        parts += (b"&guest_uid=", quoted(uid_bytes(record.guest_uid)))
    return b"".join((*parts, b"&data=", quoted(record.payload)))


def quoted(text: bytes) -> bytes:
    """Of 745 bytes of ASCII in 4 us, of others in 20; quote_plus takes 30."""
    if text.translate(None, _EASY):
        return text.decode("latin-1").translate(_ESCAPES).encode()
    for byte, escape in _REPLACEMENTS:
        text = text.replace(byte, escape)
    return text
