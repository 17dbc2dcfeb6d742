"""``insend`` and ``ainsend``: one of each for the whole project, connected to the settings at their first use.

They can be imported anywhere, before Django's apps are ready too. When a test changes ``INSEND`` by
``override_settings``, the next call goes by the new settings.
"""

from __future__ import annotations

from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

from django.core.signals import setting_changed

from insend_relay.producers.async_insend import AsyncInSend
from insend_relay.producers.awaited import awaited
from insend_relay.producers.calls import NOTHING, Asked, Calls, Said
from insend_relay.producers.django.configuration import configuration
from insend_relay.producers.django.on_commit import OnCommit
from insend_relay.producers.events import Id
from insend_relay.producers.insend import InSend
from insend_relay.producers.receipt import Receipt

P = TypeVar("P", InSend, AsyncInSend)


class AtFirstUse(Generic[P]):
    """Makes one by Django's settings when it is first asked for."""

    def __init__(self, kind: type[P]) -> None:
        self._kind: type[P] = kind
        self._made: dict[str, P] = {}  # setdefault is one step: no lock in which a call could be re-entered

    def __call__(self) -> P:
        """The one; SettingsError lists what is wrong with the settings."""
        made = self._made.get("one")
        return self._made.setdefault("one", self._kind(settings=configuration().settings)) if made is None else made

    def forget(self) -> P | None:
        """Make a new one at the next use; returns the old one."""
        return self._made.pop("one", None)


class DjangoInSend(Calls[Receipt]):
    """What a view calls; see ``InSend``.

    Attributes:
        on_commit: The same calls, for events that wait for the transaction to commit.
    """

    def __init__(self, made: AtFirstUse[InSend], visitor: ContextVar[Said]) -> None:
        super().__init__(visitor)
        self._made = made
        self.on_commit = OnCommit(made, visitor)

    def guest_uid_for(self, order_id: Id) -> str:
        """A stable guest uid for an order that is made without a visitor; see ``Calls.guest_uid_for``."""
        return self._made().guest_uid_for(order_id)

    def __reduce__(self) -> str:
        return "insend"  # by its name in this module: another process has its own

    def take(self, asked: Asked) -> Receipt:
        """Keep a call's event in Redis."""
        return self._made().take(asked)


@awaited
class AsyncDjangoInSend(Calls[Coroutine[Any, Any, Receipt]]):
    """What an async view calls, and awaits; see ``AsyncInSend``."""

    def __init__(self, made: AtFirstUse[AsyncInSend], visitor: ContextVar[Said]) -> None:
        super().__init__(visitor)
        self._made = made

    def guest_uid_for(self, order_id: Id) -> str:
        """A stable guest uid for an order that is made without a visitor; see ``Calls.guest_uid_for``."""
        return self._made().guest_uid_for(order_id)

    def __reduce__(self) -> str:
        return "ainsend"

    def take(self, asked: Asked) -> Coroutine[Any, Any, Receipt]:
        """Keep a call's event in Redis."""
        return self._made().take(asked)


the_insend = AtFirstUse(InSend)
the_ainsend = AtFirstUse(AsyncInSend)
_visitor: ContextVar[Said] = ContextVar("insend_visitor", default=NOTHING)
insend = DjangoInSend(the_insend, _visitor)
ainsend = AsyncDjangoInSend(the_ainsend, _visitor)


def _forget(*, setting: str, **_: Any) -> None:
    if setting == "INSEND":
        configuration.cache_clear()
        the_ainsend.forget()  # its connections end with their event loop
        old = the_insend.forget()
        if old is not None:
            old.close()


setting_changed.connect(_forget)
