"""Where Celery's broker is, in Celery's words.

kombu reads URLs in its own way: under ``rediss://`` without TLS options it verifies nothing, and sends the user and the
password to any server. So the URL is parsed here, as for every other part; Celery gets a URL of which each piece is
percent-encoded, and the TLS options stated.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from insend_relay.outbox.redis_url import RedisUrl
from insend_relay.outbox.settings import Settings


def broker_url(settings: Settings) -> RedisUrl:
    """The broker's address: the outbox's Redis, unless the settings name another one."""
    if settings.broker_url:
        return RedisUrl.parse(settings.broker_url, "INSEND_BROKER_URL")
    return RedisUrl.parse(settings.redis_url)


def broker_address(settings: Settings) -> dict[str, Any]:
    """Celery's settings ``broker_url`` and ``broker_use_ssl``."""
    url = broker_url(settings)
    return {"broker_url": _celery_url(url), "broker_use_ssl": url.tls or False}


def _celery_url(url: RedisUrl) -> str:
    who = ""
    if url.username or url.password:
        who = f"{quote(url.username or '', safe='')}:{quote(url.password or '', safe='')}@"
    if url.kind == "unix":
        return f"redis+socket://{who}{quote(url.path)}?virtual_host={url.db}"
    scheme = "rediss" if url.kind == "tls" else "redis"
    host = f"[{url.host}]" if ":" in url.host else quote(url.host, safe="")
    return f"{scheme}://{who}{host}:{url.port}/{url.db}"
