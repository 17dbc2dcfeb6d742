"""What a Redis says of itself by HELLO: its mode and its role, to every user, in one command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError

from insend_relay.outbox.errors import ClusterMode

HELLO = ("HELLO",)
PROBE = (("PING",), HELLO)  # in one packet: HELLO is answered even while Redis loads its data, and PING is not
CLUSTER = (
    "this Redis runs in cluster mode, which Insend Relay does not support: point INSEND_REDIS_URL at a Redis without it"
)


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
        """Read the answer to ``HELLO``; an error, or what is no answer to it, says nothing."""
        if isinstance(reply, list):  # RESP2; RESP3 has a map
            reply = dict(zip(map(_text, reply[::2]), reply[1::2], strict=False))
        said = {_text(name): _text(value) for name, value in reply.items()} if isinstance(reply, dict) else {}
        return cls(said.get("mode", ""), said.get("role", ""))

    @property
    def is_primary(self) -> bool:
        """Whether it takes writes; a server that does not say its role is taken for a primary."""
        return self.role not in {"replica", "slave"}

    def check(self) -> None:
        """Raise ClusterMode when this Redis runs in cluster mode."""
        if self.mode == "cluster":
            raise ClusterMode(CLUSTER)


def probe(connection: Any) -> Hello:
    """See that an open connection of redis-py answers, and who does; raises redis-py's errors. One round trip."""
    connection.send_packed_command(connection.pack_commands(PROBE), check_health=False)
    connection.read_response()
    try:
        return Hello.read(connection.read_response())
    except ResponseError:  # a proxy that does not know HELLO
        return Hello()


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
