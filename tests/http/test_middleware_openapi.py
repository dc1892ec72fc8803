"""`documented`: what an application's own OpenAPI document says of its guarded operations."""

from __future__ import annotations

import copy
from typing import Any

from consumer.http import documented
from consumer.http.problem import PROBLEMS

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "paths": {
        "/payments": {
            "post": {"responses": {"201": {"description": "made"}, "422": {"description": "its own"}}},
            "get": {"responses": {"200": {"description": "all"}}},
        },
        "/files/{name}": {"post": {"responses": {"200": {"description": "kept"}}}},
        "/open": {"post": {"responses": {"200": {"description": "open"}}}},
    },
}


class Api:
    """Caches its document as FastAPI does."""

    def __init__(self) -> None:
        self.document = copy.deepcopy(DOCUMENT)
        self.openapi: Any = lambda: self.document


def test_a_document_shows_the_key_where_it_is_wanted():
    api = Api()
    documented(
        api, {"POST /payments": "required", "POST /files/{name:path}": "optional", "POST /open": "off"}
    )
    paths = api.openapi()["paths"]
    [key] = paths["/payments"]["post"]["parameters"]
    assert (key["name"], key["in"], key["required"]) == ("Idempotency-Key", "header", True)
    [key] = paths["/files/{name}"]["post"]["parameters"]
    assert key["required"] is False
    assert paths["/open"] == DOCUMENT["paths"]["/open"]
    assert paths["/payments"]["get"] == DOCUMENT["paths"]["/payments"]["get"]


def test_it_shows_the_replay_and_the_problems_and_leaves_what_the_application_says():
    api = Api()
    documented(api, {"POST /payments": "required"})
    responses = api.openapi()["paths"]["/payments"]["post"]["responses"]
    assert "Idempotent-Replayed" in responses["201"]["headers"]
    assert not {"415", "431"} & responses.keys(), "behind the middleware they are the application's business"
    assert responses["422"]["description"].startswith("its own · `payload-mismatch`: ")
    assert responses["422"]["content"]["application/problem+json"]
    for code in ("in-progress", "outcome-unknown", "response-not-stored", "key-expired"):
        assert f"`{code}`: {PROBLEMS[code].title}." in responses["409"]["description"]
    assert responses["409"]["content"]["application/problem+json"]
    assert f"`invalid-request`: {PROBLEMS['invalid-request'].title}." in responses["400"]["description"]


def test_it_is_made_once_and_the_applications_own_is_left_alone():
    api = Api()
    documented(api)
    assert api.openapi() is api.openapi()
    assert len(api.openapi()["paths"]["/payments"]["post"]["parameters"]) == 1
    assert api.document == DOCUMENT
    api.document = {"openapi": "3.1.0", "paths": {}}
    assert api.openapi()["paths"] == {}
