"""Where redis-py's exceptions become the project's: the one place that knows both."""

from __future__ import annotations

import re
from typing import Any

from redis import exceptions

from consumer.errors import ConsumerError, SettingsError, StoreUnavailable, WritesRefused
from consumer.tls import refused

__all__ = ["DRIVER", "HistoryBroken", "is_stale", "one_line", "settings_fault", "store_fault", "unwrapped"]

DRIVER = (exceptions.RedisError, exceptions.RedisClusterException, OSError)
"""Everything that redis-py raises (its cluster client has a family of its own)."""


class HistoryBroken(StoreUnavailable):
    """The store may have lost claims: nothing is claimed until somebody answers for that."""


CLOSED = "CLOSED"
STALE = "STALE"
HISTORY = "HISTORY "
"""What our scripts answer by errors of their own; see lua/history.lua."""

_WAIT = {
    "MISCONF": "it cannot write to its disk",
    "NOREPLICAS": "fewer replicas than min-replicas-to-write are up",
    "BUSY": "a script has run too long",
    "UNKILLABLE": "a script has run too long",
    "NOPROTO": "it cannot speak our protocol",
}
"""Answers of a server that time, or whoever runs it, mends."""

_UNWRITTEN = {"MISCONF", "NOREPLICAS"}

_INSIDE: dict[str, type[exceptions.ResponseError]] = {
    "OOM": exceptions.OutOfMemoryError,
    "READONLY": exceptions.ReadOnlyError,
    "MISCONF": exceptions.ResponseError,
    "NOREPLICAS": exceptions.ResponseError,
}
_WRAPPED = re.compile(rf"@user_script: *\d+: -({'|'.join(_INSIDE)}) .*")

_ELSEWHERE = (exceptions.ClusterError, exceptions.AskError, exceptions.TryAgainError)
"""A cluster that is changing, or not whole."""

_REFUSED = (
    exceptions.AuthenticationError,
    exceptions.AuthorizationError,
    exceptions.NoPermissionError,
    exceptions.AuthenticationWrongNumberOfArgsError,
)

_NO_PASSWORD = (
    "HELLO must be called with the client already authenticated",
    "NOAUTH ",
    "Authentication required",
)
_WRONG_PASSWORD = ("invalid username-password pair", "WRONGPASS ")
"""Where Sentinels or every node of a cluster refuse us, redis-py keeps only the text."""


def one_line(error: BaseException) -> str:
    """Return an error's text as one line, for logs and for people."""
    # Redis appends where in the script it was; redis-py the whole command.
    text = re.sub(r" script: [0-9a-f]{40}.*$", "", " ".join(str(error).split()))
    # And of each Sentinel its client with everything in it.
    text = re.sub(r"<redis\.asyncio\.client\.Redis\(.*?\)>\)>\)>", "a Sentinel", text)
    return text[:300] or type(error).__name__


def unwrapped(reply: Any) -> Any:
    """Return a reply; an error that Redis 6.2 wrapped, because it met it inside a script, as what it is."""
    if type(reply) is exceptions.ResponseError:
        found = _WRAPPED.search(str(reply))
        if found is not None:
            return _INSIDE[found[1]](found[0].partition("-")[2])
    return reply


def is_stale(error: object) -> bool:
    """Whether a script says that a history was accepted since this process looked."""
    return isinstance(error, exceptions.ResponseError) and str(error).startswith(STALE)


def settings_fault(error: BaseException) -> str | None:
    """Return why this URL can never work; `None` where trying again may help."""
    text = one_line(error)
    if any(words in text for words in _NO_PASSWORD):
        return "the server wants a password; the URL has none (redis://:PASSWORD@HOST or redis://USER:PASSWORD@HOST)"
    if isinstance(error, _REFUSED) or any(words in text for words in _WRONG_PASSWORD):
        return f"the server refuses: {text}; check user, password and ACL"
    if (why := refused(error, authorities="ssl_ca_certs", own="ssl_certfile")) is not None:
        return why
    if isinstance(error, (exceptions.MovedError, exceptions.AskError)):
        return "this server is part of a cluster; use redis+cluster://"
    if isinstance(error, (exceptions.DataError, ValueError)):
        return text
    if isinstance(error, exceptions.ResponseError) and "DB index is out of range" in text:
        return f"the server has no such database: {text}"
    return None


def store_fault(error: BaseException) -> ConsumerError:
    """Return what a failure of a call means, once the store was opened."""
    text = one_line(error)
    if isinstance(error, exceptions.DataError):
        return SettingsError(f"Redis: {text}")
    if not isinstance(error, exceptions.ResponseError) or isinstance(error, _ELSEWHERE):
        return StoreUnavailable(f"Redis: {text}")
    if text.startswith(HISTORY):
        return HistoryBroken(
            f"Redis may have lost claims: {text.removeprefix(HISTORY)}. Nothing is claimed until somebody answers for"
            " that: consumer accept-history --reason TEXT"
        )
    if text.startswith(CLOSED):
        return StoreUnavailable("this worker is closed: it may claim nothing any more")
    return _answered(error, text)


def _answered(error: exceptions.ResponseError, text: str) -> ConsumerError:
    """Return what a refusal of the server means."""
    if isinstance(error, exceptions.OutOfMemoryError):
        return WritesRefused(f"Redis is full, and rightly evicts nothing; raise maxmemory: {text}")
    if isinstance(error, exceptions.ReadOnlyError):
        return WritesRefused(f"Redis is a replica now (a fail-over?): {text}")
    if isinstance(error, _REFUSED):
        return StoreUnavailable(f"Redis refuses: {text}; check user, password and ACL")
    for code, meaning in _WAIT.items():
        if text.startswith(code):
            kind = WritesRefused if code in _UNWRITTEN else StoreUnavailable
            return kind(f"Redis: {meaning}: {text}")
    # Waiting does not mend it: a mistake of ours, or a change of the keys by somebody else.
    return ConsumerError(f"Redis refuses a command of the store: {text}")
