"""The OpenAPI 3.1 description of an app's endpoints, and a helper that adds the same to another application's document."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from consumer.declare.ways import Endpoint
from consumer.http.key import HEADER
from consumer.http.problem import PROBLEMS

__all__ = ["document", "idempotent"]

_ANSWERS: Sequence[str] = (
    "key-missing",
    "key-malformed",
    "invalid-request",
    "invalid-tenant",
    "invalid-body",
    "unauthenticated",
    "body-timeout",
    "in-progress",
    "outcome-unknown",
    "too-large",
    "encoding",
    "payload-mismatch",
    "rejected",
    "headers-too-large",
    "failed",
    "overloaded",
    "try-again",
    "store-unavailable",
)

_KEY = {
    "name": HEADER,
    "in": "header",
    "required": True,
    "description": "Names this operation: the same value again is the same operation. A String of RFC 8941 (printable ASCII, "
    "spaces too, in quotation marks; a quotation mark or backslash in it has a backslash before it), or the same value bare, "
    "where it is visible ASCII without comma, semicolon and quotation mark. 1 to 255 characters without quotation marks and "
    "escapes; parameters after it mean nothing.",
    # No maxLength: escapes and parameters are not counted.
    "schema": {"type": "string", "minLength": 1},
    "example": '"8e03978e-40d5-43e8-bc93-6894a57f9324"',
}

_REPLAY_HEADERS = {
    "Idempotent-Replayed": {
        "description": "`true`: the operation was done before, and this is its stored response.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Idempotency-Key-Expires": {
        "description": "Until then, at least, the key is remembered (an HTTP date).",
        "schema": {"type": "string"},
    },
}

_RETRY_AFTER = {
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1, "maximum": 60}}
}

_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "code", "retryable"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "retryable": {"type": "boolean", "description": "The same request may be sent again as it is."},
        "detail": {"type": "string"},
    },
}


def document(name: str, endpoints: Iterable[Endpoint], version: str = "1") -> dict[str, Any]:
    """Return the OpenAPI document of endpoints.

    Args:
        name: the app's.
        endpoints: what to describe.
        version: of the API.
    """
    described = list(endpoints)
    kinds = [kind for e in described for kind in (e.translation.body, _result(e)) if kind is not None]
    shapes, components = msgspec.json.schema_components(
        [kind for kind in kinds if kind is not bytes], ref_template="#/components/schemas/{name}"
    )
    schema_of = {
        id(kind): shape for kind, shape in zip([k for k in kinds if k is not bytes], shapes, strict=True)
    }
    paths: dict[str, Any] = {}
    for endpoint in described:
        operation = _operation(endpoint, schema_of)
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": version},
        "paths": paths,
        "components": {"schemas": {**components, "Problem": _PROBLEM}},
    }


def idempotent(described: dict[str, Any], routes: Mapping[str, str]) -> dict[str, Any]:
    """Add the header, the replay headers and the problems to operations of another application's OpenAPI document.

    Args:
        described: the document, e.g. `FastAPI.openapi()`; it is changed.
        routes: as given to `Idempotency`: `{"POST /payments": "required"}`.

    Returns:
        The same document.
    """
    for route, policy in routes.items():
        method, _, path = route.partition(" ")
        operation = described.get("paths", {}).get(path, {}).get(method.lower())
        if operation is None or policy == "off":
            continue
        operation.setdefault("parameters", []).append({**_KEY, "required": policy == "required"})
        for status, answer in operation.setdefault("responses", {}).items():
            if str(status).startswith("2"):
                answer.setdefault("headers", {}).update(_REPLAY_HEADERS)
        for status, answer in _problems(without=_APPLICATIONS).items():
            operation["responses"].setdefault(status, answer)
    described.setdefault("components", {}).setdefault("schemas", {})["Problem"] = _PROBLEM
    return described


def _operation(endpoint: Endpoint, schema_of: Mapping[int, Any]) -> dict[str, Any]:
    body, result = endpoint.translation.body, _result(endpoint)
    media = "application/octet-stream" if body is bytes else "application/json"
    answer: dict[str, Any] = {"description": "The result.", "headers": dict(_REPLAY_HEADERS)}
    if result is not None:
        answer["content"] = {"application/json": {"schema": schema_of[id(result)]}}
    function = endpoint.handler.function
    return {
        "operationId": f"{endpoint.method.lower()}_{re.sub('[^a-z0-9]+', '_', endpoint.path.lower()).strip('_')}",
        "summary": (inspect.getdoc(function) or endpoint.handler.name).splitlines()[0],
        "parameters": [_KEY, *_header_parameters(endpoint.headers), *_path_parameters(endpoint.path)],
        "requestBody": {"required": True, "content": {media: {"schema": schema_of.get(id(body), {})}}},
        "responses": {str(endpoint.status): answer, **_problems()},
    }


def _header_parameters(names: Iterable[str]) -> list[dict[str, Any]]:
    return [{"name": name, "in": "header", "required": False, "schema": {"type": "string"}} for name in names]


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{([A-Za-z_][A-Za-z0-9_]*)", path)
    ]


_APPLICATIONS = frozenset({"encoding", "headers-too-large"})
"""What the endpoints answer, and behind the middleware is the application's business."""


def _problems(without: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return the responses that are problems, a status each, with their codes."""
    answers: dict[str, Any] = {}
    for code in _ANSWERS:
        if code in without:
            continue
        row = PROBLEMS[code]
        answer = answers.setdefault(
            str(row.status),
            {
                "description": "",
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
        )
        answer["description"] += f"{' · ' if answer['description'] else ''}`{code}`: {row.title}."
        if row.after is not None:
            answer["headers"] = dict(_RETRY_AFTER)
    return answers


def _result(endpoint: Endpoint) -> Any:
    returns = endpoint.handler.asks.returns
    return None if returns in {inspect.Signature.empty, None, type(None)} else returns
