"""Adds what `Idempotency` does to the OpenAPI document of an application that writes its own, as FastAPI does."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any, Protocol

from consumer.http.openapi import idempotent
from consumer.http.problem import PROBLEMS
from consumer.http.routing import Rule, Rules

__all__ = ["Documents", "documented"]

_ANSWERED = (
    "key-missing",
    "key-malformed",
    "invalid-request",
    "invalid-tenant",
    "unauthenticated",
    "body-timeout",
    "in-progress",
    "outcome-unknown",
    "response-not-stored",
    "key-expired",
    "too-large",
    "payload-mismatch",
    "rejected",
    "failed",
    "overloaded",
    "store-unavailable",
)
"""What the middleware itself answers. Where the application's document has such a status already, they are added to it."""

_PROBLEM = {"schema": {"$ref": "#/components/schemas/Problem"}}

_KIND = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*):[a-z]+\}")


class Documents(Protocol):
    """What the helper asks of an application: FastAPI has it."""

    openapi: Any
    """A function without arguments that returns the document, the same object every time."""


def documented(api: Documents, routes: Mapping[str, str] | None = None) -> None:
    """Let an application's document show the key, the replay headers and the problems of its guarded operations.

    `documented(api, ROUTES)` after `api.add_middleware(Idempotency, …, routes=ROUTES)`.

    Args:
        api: has an `openapi` method, which is replaced.
        routes: as given to `Idempotency`; `POST *` and `PATCH *` are optional where nothing else is said.

    Raises:
        RegistrationError: a route cannot be understood.
    """
    rules, plain = Rules(routes or {}), api.openapi
    made: list[tuple[Any, dict[str, Any]]] = []

    def openapi() -> dict[str, Any]:
        source = plain()
        if not made or made[0][0] is not source:
            made[:] = [(source, _with_keys(copy.deepcopy(source), rules))]
        return made[0][1]

    api.openapi = openapi


def _with_keys(described: dict[str, Any], rules: Rules) -> dict[str, Any]:
    needs = _needs(described, rules)
    idempotent(described, needs)
    for route in needs:
        method, _, path = route.partition(" ")
        responses = described["paths"][path][method.lower()]["responses"]
        for code in _ANSWERED:
            row = PROBLEMS[code]
            answer = responses[str(row.status)]
            if f"`{code}`" not in answer["description"]:
                answer["description"] += f" · `{code}`: {row.title}."
                answer.setdefault("content", {}).setdefault("application/problem+json", _PROBLEM)
    return described


def _needs(described: Mapping[str, Any], rules: Rules) -> dict[str, str]:
    """Return what each operation of a document wants of the key, without those that want nothing."""
    found: dict[str, str] = {}
    written = {
        rule.method + " " + _path_of(rule): rule.need for rule in rules.all if rule.pattern is not None
    }
    rest = {rule.method: rule.need for rule in rules.all if rule.pattern is None}
    for path, operations in described.get("paths", {}).items():
        for method in operations:
            route = f"{method.upper()} {path}"
            need = written.get(route) or rest.get(method.upper(), "off")
            if need != "off":
                found[route] = need
    return found


def _path_of(rule: Rule) -> str:
    """Return a rule's path as documents write it: without the kinds of its parameters."""
    return _KIND.sub(r"{\1}", rule.name.partition(" ")[2])
