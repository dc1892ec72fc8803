"""What a server is asked before it is trusted: a setting that loses claims silently is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from consumer.errors import ConsumerError, SettingsError, StoreUnavailable
from consumer.stores.redis.calls import Calls

__all__ = ["OLDEST", "check_server"]

OLDEST = (6, 2)
"""Redis 6.2: the oldest that the contract suite is run on."""

_HIDDEN = "hidden"
"""What a managed service says of a setting."""


async def check_server(calls: Calls) -> list[str]:
    """Ask every primary; return what weakens the promise and was permitted by `?weak=yes`.

    Raises:
        SettingsError: the server cannot be used, or weakens the promise without permission; the text names setting, value
            and mend.
        StoreUnavailable: nobody answers.
    """
    shown = calls.address.shown
    weak: list[str] = []
    for info in map(_parsed, await calls.everywhere("INFO")):
        _check_kind(info, shown, cluster=calls.address.kind == "cluster")
        for name, value, meaning, mend in _weaknesses(info):
            weak.append(f"{name} is {value}")
            if not calls.address.weak:
                raise SettingsError(
                    f"store={shown!r}: {name} is {value}: {meaning}. {mend}, or add ?weak=yes to the URL to accept it"
                )
    try:
        policies = [_setting(reply) for reply in await calls.everywhere("CONFIG", "GET", "appendfsync")]
    except StoreUnavailable as fault:
        if "CONFIG" not in str(fault).upper() and "refuses" not in str(fault):
            raise
        policies = [_HIDDEN]
    except ConsumerError:
        policies = [_HIDDEN]  # an unknown command: the service has renamed it away
    for policy in policies:
        if policy not in {"always", "everysec"}:
            weak.append(f"appendfsync is {policy}")
            if not calls.address.weak:
                meaning = (
                    "the service does not show it, and with `no` a power failure loses what was acknowledged"
                    if policy == _HIDDEN
                    else "a power failure loses what was acknowledged"
                )
                raise SettingsError(
                    f"store={shown!r}: appendfsync is {policy}: {meaning}. Set appendfsync everysec or always,"
                    " or add ?weak=yes to the URL to vouch for it"
                )
    return list(dict.fromkeys(weak))


def _check_kind(info: Mapping[str, str], shown: str, *, cluster: bool) -> None:
    version = tuple(int(part) for part in info.get("redis_version", "0").split(".")[:2])
    if version < OLDEST:
        raise SettingsError(
            f"store={shown!r}: Redis {info.get('redis_version')} is too old; 6.2 or newer is needed"
        )
    if info.get("role", "master") != "master":
        raise SettingsError(
            f"store={shown!r}: role is {info['role']}: a replica takes no writes; name the primary (or redis+sentinel://)"
        )
    if not cluster and info.get("cluster_enabled", "0") == "1":
        raise SettingsError(f"store={shown!r}: this server is part of a cluster; use redis+cluster://")


def _weaknesses(info: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    found = []
    policy = info.get("maxmemory_policy", _HIDDEN)
    if policy != "noeviction":
        found.append(
            (
                "maxmemory-policy",
                policy,
                "a full Redis evicts keys, and with them the memory of what was done",
                "Set maxmemory-policy noeviction",
            )
        )
    if info.get("aof_enabled", "0") != "1":
        found.append(
            (
                "appendonly",
                "no",
                "a restart forgets what was acknowledged",
                "Set appendonly yes (and appendfsync everysec or always)",
            )
        )
    return found


def _parsed(reply: Any) -> dict[str, str]:
    """INFO as the driver gives it: text, or parsed already."""
    if isinstance(reply, Mapping):
        return {str(name): str(value) for name, value in reply.items()}
    text = reply.decode() if isinstance(reply, bytes) else str(reply)
    return {
        name: value for name, colon, value in (line.partition(":") for line in text.splitlines()) if colon
    }


def _setting(reply: Any) -> str:
    """CONFIG GET of one name, whatever form the driver gives it."""
    values = list(reply.values()) if isinstance(reply, Mapping) else list(reply)[1::2]
    if not values:
        return _HIDDEN
    value = values[0]
    return value.decode() if isinstance(value, bytes) else str(value)
