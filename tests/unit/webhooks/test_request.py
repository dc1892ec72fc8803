"""A request is bytes: text would carry a signature that is never found, and every request would be refused."""

from __future__ import annotations

from typing import Any

import pytest

from consumer.webhooks import Request


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"headers": [("webhook-id", "msg_1")]}, "'webhook-id' is text, or its value is; pass bytes"),
        ({"headers": [(b"webhook-id", "msg_1")]}, "b'webhook-id' is text, or its value is; pass bytes"),
        (
            {"headers": [(b"a", b"b"), ("webhook-id", b"msg_1")]},
            "'webhook-id' is text, or its value is; pass bytes",
        ),
        ({"headers": {"webhook-id": "msg_1"}}, "a mapping; pass pairs of bytes"),
        ({"body": "{}"}, "text; pass the bytes that arrived"),
        ({"query": "a=1"}, "text; pass the bytes that arrived"),
    ],
)
def test_text_is_refused_loudly(given: dict[str, Any], says: str) -> None:
    with pytest.raises(TypeError, match=r"^Request\(") as caught:
        Request(**given)
    assert says in str(caught.value)


def test_bytes_are_a_request() -> None:
    assert Request(headers=[(b"webhook-id", b"msg_1")], body=b"{}").headers == [(b"webhook-id", b"msg_1")]
