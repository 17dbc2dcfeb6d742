"""The floor of what enqueueing can take: one RPUSH of the same payload, by redis-py, and nothing else."""

from __future__ import annotations

import os

import redis
from peer_event import produce


def main() -> None:
    """Do what the command line says."""
    client = redis.Redis.from_url(os.environ["REDIS_URL"])
    produce(lambda _, payload: client.rpush("bare", payload))


if __name__ == "__main__":
    main()
