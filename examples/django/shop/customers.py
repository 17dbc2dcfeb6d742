"""Who a customer is to the tracker."""

from django.http import HttpRequest


def visitor_uid(request: HttpRequest) -> str | None:
    """``INSEND["VISITOR_UID"]``: the uid of the one who is logged in, None for a guest."""
    return uid_of(request.user.username) if request.user.is_authenticated else None


def uid_of(name: str) -> str:
    """A customer's uid at the tracker."""
    return f"customer-{name}"
