"""Why a broker could not be reached: aiokafka logs the reason and raises another error, so we knock once ourselves."""

from __future__ import annotations

import ssl
from typing import Any

from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from consumer.brokers.kafka.access import Access
from consumer.errors import BrokerUnavailable, SettingsError

__all__ = ["explain"]

_PATIENCE = 3.0
_connection: Any = AIOKafkaConnection


async def explain(
    bootstrap: str, access: Access, error: BrokerUnavailable
) -> SettingsError | BrokerUnavailable:
    """Return why nobody of `bootstrap` can be spoken to: a refusal that time does not mend, or `error`.

    Args:
        bootstrap: `host:port[,host:port]`.
        access: how it was tried.
        error: what came of it.
    """
    options = access.options()
    for place in bootstrap.split(","):
        host, _, port = place.rpartition(":")
        reason = await _knock(host.strip("[]"), int(port), access, options)
        if isinstance(reason, str):
            return SettingsError(f"Kafka at {place}: {reason}")
        if reason:
            return BrokerUnavailable(
                f"{error}; {place} hangs up: if it stays so, kafka_security_protocol ="
                f" {access.security_protocol!r} is not what this port speaks"
            )
    return error


async def _knock(host: str, port: int, access: Access, options: dict[str, Any]) -> str | bool:
    """Return why this broker refuses us; `True`: it hangs up and says nothing; `False`: nothing is known."""
    connection = _connection(host, port, request_timeout_ms=int(_PATIENCE * 1000), **options)
    try:
        await connection.connect()
    except Exception as fault:  # noqa: BLE001 - what answers may be no Kafka at all: then asserts and struct errors
        return _meaning(fault, access)
    finally:
        connection.close()
    return False


def _meaning(fault: Exception, access: Access) -> str | bool:
    if isinstance(fault, KafkaConnectionError):
        cause = fault.__cause__ or fault.__context__
        return _of_tls(cause) if isinstance(cause, ssl.SSLError) else True
    if isinstance(fault, (SaslAuthenticationFailed, AuthenticationFailedError)):
        return f"user {access.username!r} or the password is not accepted; check kafka_username and kafka_password"
    if isinstance(fault, UnsupportedSaslMechanismError):
        return (
            f"kafka_sasl_mechanism = {access.sasl_mechanism!r} is not enabled there;"
            " use one of those that the broker has in sasl.enabled.mechanisms"
        )
    if isinstance(fault, IllegalSaslStateError):
        return f"no SASL there; kafka_security_protocol = {access.security_protocol!r} is wrong for this port"
    if isinstance(fault, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({fault.verify_message}); check kafka_cafile and the host's name"
    if isinstance(fault, ssl.SSLError):
        return _of_tls(fault)
    if isinstance(fault, OSError):  # time-outs too
        return isinstance(fault, ConnectionResetError)
    return f"what answers is not Kafka ({type(fault).__name__}); check the port and kafka_security_protocol"


def _of_tls(fault: ssl.SSLError) -> str:
    reason = (fault.reason or str(fault)).replace("_", " ").lower()
    if "certificate" in reason or "unknown ca" in reason:
        return f"it does not accept our certificate ({reason}); check kafka_certfile and kafka_keyfile"
    return f"no TLS there ({reason}); check the port and kafka_security_protocol"
