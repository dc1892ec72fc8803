"""Clients: redis-py's own, told to try nothing twice.

A repeated command would hide a lost reply. Our claims carry nonces and our settles tokens, so a repetition would do no harm,
but whoever waits should know how long: the worker repeats by itself, with its own pauses.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import redis.asyncio as aioredis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from consumer.stores.redis.address import Address

__all__ = ["CONNECTIONS", "Client", "Sentinels", "connect"]

CONNECT_TIMEOUT = 5.0
"""Seconds for a connection, TLS and log-in included."""

READ_TIMEOUT = 15.0
"""Seconds for a reply: every script changes at most a batch."""

CONNECTIONS = 8
"""Calls at once, per handle; each takes one connection of a server. A ninth call waits."""

Client: TypeAlias = "aioredis.Redis | RedisCluster"
Sentinels: TypeAlias = "list[aioredis.Redis]"


def connect(address: Address, app: str) -> tuple[Client, Sentinels]:
    """Return a client that connects when it is first used, and the clients of its Sentinels.

    Args:
        address: where to.
        app: shown in `CLIENT LIST`.
    """
    options: dict[str, Any] = {
        **address.options,
        "client_name": f"consumer-{app}".replace(" ", "-")[:63]
        if app.isascii() and app.isprintable()
        else "consumer",
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_timeout": READ_TIMEOUT,
        "socket_keepalive": True,
        "health_check_interval": 0,
    }
    if address.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in address.hosts]
        cluster = RedisCluster(startup_nodes=nodes, retry=_never(), max_connections=64, **options)
        return cluster, []
    options |= {"db": address.database, "retry": _never(), "retry_on_error": []}
    if address.kind == "sentinel":
        sentinel = Sentinel(  # type: ignore[no-untyped-call]
            address.hosts,
            sentinel_kwargs={
                **address.sentinel_options,
                "socket_connect_timeout": CONNECT_TIMEOUT,
                "socket_timeout": CONNECT_TIMEOUT,
                "retry": _never(),
            },
        )
        return sentinel.master_for(address.service, **options), list(sentinel.sentinels)
    [(host, port)] = address.hosts
    return aioredis.Redis(host=host, port=port, **options), []


def _never() -> Retry:
    return Retry(NoBackoff(), 0)
