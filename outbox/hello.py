"""What a Redis says of itself by HELLO: one command, allowed to every user, that names the server's mode and role."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError

from insend_relay.outbox.connection import CLUSTER, Executor, errors_mapped
from insend_relay.outbox.errors import ClusterMode

COMMAND = ("HELLO",)


@dataclass(frozen=True, slots=True)
class Hello:
    """The parts of the answer that matter to us; "" where the server does not say.

    Attributes:
        mode: ``standalone``, ``sentinel`` or ``cluster``.
        role: ``master`` or ``replica``.
    """

    mode: str = ""
    role: str = ""

    @classmethod
    def read(cls, reply: Any) -> Hello:
        """Read the answer to ``COMMAND``; an error, or what is no answer to it, says nothing."""
        if isinstance(reply, list):  # RESP2; RESP3 has a map
            reply = dict(zip(map(_text, reply[::2]), reply[1::2], strict=False))
        said = {_text(name): _text(value) for name, value in reply.items()} if isinstance(reply, dict) else {}
        return cls(said.get("mode", ""), said.get("role", ""))

    def check(self) -> None:
        """Raise ClusterMode when this Redis runs in cluster mode."""
        if self.mode == "cluster":
            raise ClusterMode(CLUSTER)


def check_server(redis: Executor) -> None:
    """Raise ClusterMode when this Redis runs in cluster mode; OutboxError when it cannot be asked. One round trip."""
    with errors_mapped():
        try:
            reply = redis.execute_command(*COMMAND)
        except ResponseError:  # a proxy that does not know the command
            return
    Hello.read(reply).check()


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
