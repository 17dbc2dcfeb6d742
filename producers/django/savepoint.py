"""A failing query of an event must not undo the transaction of the view that sends it.

The project's ``VISITOR_UID`` may ask a database, and an event of ``on_commit`` may be given as a query.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import connections, transaction


@contextmanager
def own_savepoint() -> Iterator[None]:
    """Queries inside run in a savepoint of their own where there is a transaction; without a query there is none.

    When a query fails or the block raises, the savepoint is rolled back and the transaction can go on: PostgreSQL
    refuses every command after a failed query, and Django does so after a failed ``save``.
    """
    with ExitStack() as stack:
        for connection in connections.all(initialized_only=True):
            if connection.in_atomic_block:
                stack.enter_context(connection.execute_wrapper(_in_savepoint(stack, connection.alias)))
        yield


def _in_savepoint(stack: ExitStack, alias: str) -> Callable[..., Any]:
    """A wrapper of queries: it begins a savepoint before the first one, which a failed one marks for rollback."""
    is_begun = False

    def execute(query: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:  # noqa: FBT001 - Django's signature
        nonlocal is_begun
        if not is_begun:
            is_begun = True  # the savepoint is made by a query too
            stack.enter_context(transaction.atomic(using=alias))
        try:
            return query(sql, params, many, context)
        except Exception:
            transaction.set_rollback(True, using=alias)  # the block may go on without what it asked for
            raise

    return execute
