"""A failing query of the project's ``VISITOR_UID`` must not undo the transaction of the view that sends an event."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import connections, transaction


@contextmanager
def own_savepoint() -> Iterator[None]:
    """Queries inside run in a savepoint of their own where there is a transaction; without a query there is none.

    When the block raises, the savepoint is rolled back and the transaction can go on: PostgreSQL refuses every command
    after a failed query, and Django does so after a failed ``save``.
    """
    with ExitStack() as stack:
        for connection in connections.all(initialized_only=True):
            if connection.in_atomic_block:
                stack.enter_context(connection.execute_wrapper(_at_first_query(stack, connection.alias)))
        yield


def _at_first_query(stack: ExitStack, alias: str) -> Callable[..., Any]:
    """A wrapper of queries that begins a savepoint before the first one."""
    is_begun = False

    def execute(query: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:  # noqa: FBT001 - Django's signature
        nonlocal is_begun
        if not is_begun:
            is_begun = True  # the savepoint is made by a query too
            stack.enter_context(transaction.atomic(using=alias))
        return query(sql, params, many, context)

    return execute
