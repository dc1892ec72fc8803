"""Ways into a handler other than topics: endpoints, webhooks, and an application's own plain routes. Values only."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from consumer.declare.complaints import complaint, type_name, where_of
from consumer.declare.handler import Handler
from consumer.declare.keyrules import HeaderRule
from consumer.declare.payload import decoder_of
from consumer.declare.signature import hints_of

__all__ = [
    "BadRequest",
    "Endpoint",
    "Fields",
    "Request",
    "Route",
    "Translation",
    "Unauthenticated",
    "Webhook",
    "checked_endpoint",
    "single_tenant",
    "translation_of",
]

_METHODS = frozenset({"DELETE", "PATCH", "POST", "PUT"})
LONGEST_WAIT = 60.0


class Unauthenticated(Exception):
    """Raised by a `tenant=` callable: it is not known who asks (401). The text is shown to the caller."""


class BadRequest(Exception):
    """Raised by a `tenant=` or `translate=` callable: the request is wrong (400), and burns no key.

    Args:
        detail: for the caller.
        code: of the problem.
    """

    def __init__(self, detail: str, *, code: str = "invalid-request") -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code


class Fields:
    """Header fields of a request: names in any case, values as text (ISO 8859-1, so that no byte is lost)."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        self._pairs = pairs

    def all(self, name: str) -> list[str]:
        """Return every value of the field `name`, in the order of arrival."""
        wanted = name.lower().encode("latin-1")
        return [value.decode("latin-1") for known, value in self._pairs if known.lower() == wanted]

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the one value of the field `name`; `default` where it is missing.

        Raises:
            BadRequest: it occurs more than once: which one is meant is nobody's to guess.
        """
        values = self.all(name)
        if len(values) > 1:
            raise BadRequest(f"the header {name} occurs {len(values)} times")
        return values[0] if values else default


@dataclass(frozen=True, slots=True)
class Request:
    """A request as `tenant=` and `translate=` see it.

    Attributes:
        method, path: as routed.
        headers: see `Fields`.
        raw_query: the query string.
        path_params: what the path's `{name}` matched.
        key: the value of `Idempotency-Key`, unquoted; of a webhook, the event's id where it is signed, else a digest of what
            is signed. Empty while `tenant=` is asked.
        tenant: whose key space; empty while `tenant=` is asked.
    """

    method: str
    path: str
    headers: Fields
    raw_query: bytes = b""
    path_params: Mapping[str, str] = field(default_factory=dict)
    key: str = ""
    tenant: str = ""

    @property
    def query(self) -> Mapping[str, str]:
        """The query's parameters; of one that occurs more than once, the last."""
        return dict(parse_qsl(self.raw_query.decode("latin-1"), keep_blank_values=True))


Translate = Callable[..., Any]
Tenant = Callable[[Request], Any]


def single_tenant(request: Request) -> str:  # noqa: ARG001 - the signature of every tenant callable
    """Say that everybody shares one key space: who asks is no part of a key. For services of one trusted caller."""
    return "public"


@dataclass(frozen=True, slots=True)
class Translation:
    """From a body to the handler's payload.

    Attributes:
        function: the user's; `None`: the body is the payload.
        decoder: of the body's type; `None`: raw bytes.
        body: that type.
        wants_request: the function takes the `Request` too.
        returns: what the function says it returns; `None`: nothing.
    """

    function: Translate | None
    decoder: msgspec.json.Decoder[Any] | None
    body: Any
    wants_request: bool = False
    returns: Any = None

    def __call__(self, body: Any, request: Request) -> Any:
        """Return the payload (or, of a webhook, `None`: nothing lands)."""
        if self.function is None:
            return body
        return self.function(body, request) if self.wants_request else self.function(body)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`App.endpoint`."""

    method: str
    path: str
    handler: Handler
    translation: Translation
    tenant: Tenant
    status: int
    wait: float
    headers: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """`POST /payments`."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Webhook:
    """`App.webhook`. The provider is one of `consumer.webhooks`."""

    path: str
    provider: Any
    topic: str
    translation: Translation
    tenant: Tenant | None


@dataclass(frozen=True, slots=True)
class Route:
    """`App.route`: a plain Starlette endpoint of the application, without a key."""

    method: str
    path: str
    function: Callable[..., Any]


def translation_of(function: Translate | None, payload: Any, local: Mapping[str, Any]) -> Translation:
    """Read a `translate=` function: its first parameter's type says how the body is decoded.

    Args:
        function: the user's; `None`: the body is the payload.
        payload: the type for that case.
        local: the names of the place of declaration.

    Raises:
        RegistrationError: its parameters cannot be passed, or its body cannot be decoded.
    """
    if function is None:
        return Translation(None, _decoder("translate", payload), payload)
    where = where_of(function)
    if inspect.iscoroutinefunction(function):
        raise complaint(where, "is async; translate= makes a payload of a body, at once and without I/O")
    hints = hints_of(function, local)
    given = [p.name for p in inspect.signature(function).parameters.values()]
    if (
        not 1 <= len(given) <= 2
        or given[0] not in hints
        or (hints.get(given[-1]) is Request and len(given) == 1)
    ):
        raise complaint(
            where, "translate= is `def (body: NewPayment)` or `def (body: NewPayment, request: Request)`"
        )
    if len(given) == 2 and hints.get(given[1]) is not Request:
        raise complaint(where, f"the second parameter of translate= is a Request, and {given[1]!r} is none")
    body = hints[given[0]]
    return Translation(
        function, _decoder(where, body), body, wants_request=len(given) == 2, returns=hints.get("return")
    )


def _decoder(where: str, body: Any) -> msgspec.json.Decoder[Any] | None:
    if body is bytes:
        return None
    decoder = decoder_of(body)
    if isinstance(decoder, str):
        raise complaint(where, decoder)
    return decoder


def checked_endpoint(endpoint: Endpoint) -> Endpoint:
    """Refuse an endpoint that cannot work.

    Raises:
        RegistrationError: the text says what to mend.
    """
    where = f"{endpoint.handler.where}: {endpoint.text}"
    if endpoint.method not in _METHODS:
        raise complaint(
            where, "an endpoint runs a handler, so it is POST, PUT, PATCH or DELETE; app.route is for others"
        )
    if not endpoint.path.startswith("/"):
        raise complaint(where, f"the path starts with a slash: '/{endpoint.path}'")
    if not callable(endpoint.tenant):
        raise complaint(where, "tenant= is a function of the request; single_tenant where there is one only")
    if not 200 <= endpoint.status <= 299:
        raise complaint(where, f"status={endpoint.status!r}: must be from 200 to 299")
    if not 0 <= endpoint.wait <= LONGEST_WAIT:
        raise complaint(where, f"wait={endpoint.wait!r}: must be from 0 to {LONGEST_WAIT:g} seconds")
    rule = endpoint.handler.tenant
    if rule is None and endpoint.tenant is not single_tenant:
        raise complaint(
            where,
            'the handler has no tenant rule, so all tenants would share keys; write tenant=Key.header("tenant") in its '
            "@on(…), or tenant=single_tenant here",
        )
    if rule is not None and not isinstance(rule, HeaderRule):
        raise complaint(
            where, "the handler's tenant rule reads the payload; an endpoint needs tenant=Key.header(…)"
        )
    _check_return(where, endpoint)
    return endpoint


def _check_return(where: str, endpoint: Endpoint) -> None:
    returns = endpoint.translation.returns
    payload = endpoint.handler.asks.payload
    if not isinstance(returns, type) or not isinstance(payload, type) or Any in {returns, payload}:
        return
    try:
        fits = issubclass(returns, payload) or (returns is int and payload is float)
    except TypeError:  # a TypedDict or a Protocol, which answers no such question
        return
    if not fits:
        raise complaint(
            where, f"translate= returns {type_name(returns)}, the handler takes {type_name(payload)}"
        )
