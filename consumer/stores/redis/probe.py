"""Why a server that was never reached cannot be: files that are not there, TLS on one side only, a refusal."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

from redis.asyncio.sentinel import MasterNotFoundError

from consumer.stores.redis.address import Address
from consumer.stores.redis.connect import Sentinels
from consumer.stores.redis.faults import DRIVER, settings_fault
from consumer.tls import unreadable

__all__ = ["hopeless"]

_PATIENCE = 2.0
"""Seconds for one look: a server that is there answers at once."""

_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


async def hopeless(address: Address, sentinels: Sentinels, error: BaseException) -> str | None:
    """Return why this URL can never work, in one line; `None` where trying again may help.

    Args:
        address: what was connected to.
        sentinels: the clients of its Sentinels, if it has any.
        error: what redis-py raised.
    """
    files = {name: address.options[name] for name in _FILES if name in address.options}
    authorities, certificate, key = _FILES
    broken = unreadable(files, authorities=authorities, certificate=certificate, key=key)
    return (
        broken
        or settings_fault(error)
        or await _refused_by(sentinels, error)
        or await _half_encrypted(address)
    )


async def _refused_by(sentinels: Sentinels, error: BaseException) -> str | None:
    """Return what a Sentinel says to us: where none names the primary, redis-py keeps no reason."""
    if not isinstance(error, MasterNotFoundError):
        return None
    for each in sentinels:
        try:
            await each.ping()
        except DRIVER as fault:
            if (why := settings_fault(fault)) is not None:
                return f"a Sentinel: {why}"
    return None


async def _half_encrypted(address: Address) -> str | None:
    """Return that one side speaks TLS and the other does not.

    Neither says so: Redis takes a greeting of TLS for a command that is not complete yet, and waits for the rest of it;
    a port with TLS hangs up on plain text, as a server that is being stopped does. So the port is asked the other way.
    """
    encrypted = bool(address.options.get("ssl"))
    for host, port in address.hosts:
        if await (_answers_plainly(host, port) if encrypted else _answers_encrypted(host, port)):
            if encrypted:
                return f"{host}:{port} does not speak TLS; use redis:// (or its port for TLS)"
            return f"{host}:{port} speaks TLS; use rediss://"
    return None


async def _answers_plainly(host: str, port: int) -> bool:
    with contextlib.suppress(OSError, ValueError):
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(b"PING\r\n")
                # Without a password, with one, and what it says while it loads its data.
                return (await reader.read(1)) in {b"+", b"-"}
            finally:
                writer.close()
    return False


async def _answers_encrypted(host: str, port: int) -> bool:
    # Nothing is sent on this connection: whom it leads to does not matter, only that TLS is spoken.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(_PATIENCE):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except ssl.SSLError as fault:
        return "_ALERT_" in (fault.reason or "")  # an alert is TLS too: it wants a certificate, say
    except (OSError, ValueError):
        return False
    writer.transport.abort()
    return True
