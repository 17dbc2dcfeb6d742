"""The account that an event belongs to: how its app key and its domain must look."""

from __future__ import annotations

import re

from insend_relay.outbox.keys import APP_KEY

_DOMAIN = re.compile(r"[^\s/:@?#]+\Z")


def app_key_problem(app_key: str) -> str:
    """What is wrong with an app key; "" when it is usable."""
    return "" if APP_KEY.match(app_key) else "use the key as the account shows it"


def domain_problem(domain: str) -> str:
    """What is wrong with an account's domain, lower case; "" when it is usable."""
    if domain.startswith("xn--") or ".xn--" in domain:
        return "give an international domain in its own letters, not as xn--"
    return "" if _DOMAIN.match(domain) else "give the domain alone, such as shop.example.com"
