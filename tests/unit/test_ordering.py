"""What names a lane, and what people are told of it."""

from __future__ import annotations

import asyncio
import json

import pytest
from click.testing import CliRunner
from msgspec import Struct

from consumer import App, AtMostOnce, Key
from consumer.cli import main
from consumer.declare.handlers import Handler
from consumer.message import Message
from consumer.operate.explain import explain
from consumer.path.keying import Unkeyed, envelope_of
from consumer.stores import open_store
from consumer.stores.memory import CAPABILITIES
from consumer.stores.redis import CAPABILITIES as REDIS
from consumer.testing.contract.samples import landing


class Change(Struct):
    id: str
    account: str


def handler(**options) -> Handler:
    app = App("shop")

    @app.on("changed", key=Key.field("id"), mode=AtMostOnce(), **options)
    async def changed(change: Change) -> None: ...

    return app.handlers.declared[0]


def lane(message: Message, ordered: object) -> bytes | None:
    envelope = envelope_of("shop", handler(ordered=ordered), message)
    assert not isinstance(envelope, Unkeyed), envelope
    return envelope.lane


VALUE = b'{"id": "1", "account": "acc-1"}'


@pytest.mark.parametrize(
    ("record_key", "ordering_key", "expected"),
    [
        (b"r", "o", b"r"),  # partitions keep the order of record keys, so that one counts
        (b"r", None, b"r"),
        (None, "o", b"o"),
        (None, "\udc80", b"\xed\xb2\x80"),
        (b"", "o", b""),
        (None, None, None),
        (b"k" * 255, None, b"k" * 255),
    ],
)
def test_the_record_key_names_the_lane_or_else_the_ordering_key(record_key, ordering_key, expected):
    message = Message("changed", VALUE, record_key=record_key, ordering_key=ordering_key)
    assert lane(message, ordered=True) == expected
    assert lane(message, ordered=False) is None
    assert lane(message, Key.field("account")) == b"acc-1"


def test_a_long_key_is_told_by_its_digest():
    one, other = (lane(Message("changed", VALUE, record_key=b"k" * n), ordered=True) for n in (256, 257))
    assert one is not None
    assert one.startswith(b"sha256:")
    assert len(one) <= 255
    assert one != other


def test_a_rule_that_finds_nothing_makes_a_dead_letter():
    unkeyed = envelope_of("shop", handler(ordered=Key.header("account")), Message("changed", VALUE))
    assert isinstance(unkeyed, Unkeyed)
    assert unkeyed.reason.startswith("ordered: ")


def test_explain_says_the_order_and_who_does_not_keep_it():
    assert "order       by the record key, or" in explain(handler(ordered=True))
    assert "order       by Key.field('account')" in explain(
        handler(ordered=Key.field("account")), CAPABILITIES
    )
    assert "keeps no order: this handler is refused at start" in explain(handler(ordered=True), REDIS)
    assert "order  " not in explain(handler())


async def fill(url: str) -> None:
    store = open_store(url, "shop")
    await store.migrate()
    lanes = [landing(f"k-{n}", lane=b"acc-1") for n in range(3)] + [
        landing("k-9", lane=b"acc-2"),
        landing("k-10"),
    ]
    await store.arrivals.land(lanes)
    await store.close()


def listed(url: str, *arguments: str) -> list[dict[str, object]]:
    done = CliRunner().invoke(main, ["inbox", "list", "--store", url, "-o", "json", *arguments])
    assert done.exit_code == 0, done.output
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


def test_a_lane_is_listed_with_who_waits_behind_whom(tmp_path):
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    asyncio.run(fill(url))
    first, *others = listed(url, "--lane", "acc-1")
    assert (first["key"], first["lane"], first["behind"]) == ("k-0", "acc-1", None)
    assert [(row["key"], row["behind"]) for row in others] == [("k-1", first["id"]), ("k-2", first["id"])]
    assert [row["lane"] for row in listed(url)] == ["acc-1", "acc-1", "acc-1", "acc-2", None]
    assert listed(url, "--lane", "acc-3") == []
