"""What a hostile or careless producer sends: each becomes a dead letter with its bytes, and holds up nobody."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.acceptance.conftest import KAFKA, POSTGRES, SQLITE
from tests.acceptance.looks import come_to, ledger, payment
from tests.acceptance.shop import committed, produce, until
from tests.acceptance.worlds import KafkaOnPostgres, World

pytestmark = pytest.mark.timeout(90)

TOPIC = "payments.requested"
MIB = 1024 * 1024


def text(**fields: Any) -> bytes:
    return json.dumps(payment("bad") | fields).encode()


def without(name: str) -> bytes:
    value = payment("bad")
    del value[name]
    return json.dumps(value).encode()


# Everything below must become a dead letter. On Kafka all of it lies in one partition, between good messages.
NOT_A_PAYMENT: dict[str, bytes | None] = {
    "tombstone": None,
    "empty": b"",
    "spaces": b"  \t ",
    "no JSON": b"{nope",
    "cut off": text()[:-3],
    "two values": text() + text(),
    "a list": b"[1,2,3]",
    "null": b"null",
    "a number": b"42",
    "zeros": b"\x00" * 64,
    "not UTF-8": b'{"payment_id":"\xff\xfe","account":"a","amount":1,"currency":"EUR"}',
    "UTF-16": json.dumps(payment("bad")).encode("utf-16"),
    "a lone surrogate": b'{"payment_id":"\\ud800","account":"a","amount":1,"currency":"EUR"}',
    "NUL in the key": b'{"payment_id":"a\\u0000b","account":"a","amount":1,"currency":"EUR"}',
    "NaN": b'{"payment_id":"bad","account":"a","amount":NaN,"currency":"EUR"}',
    "Infinity": b'{"payment_id":"bad","account":"a","amount":1e999,"currency":"EUR"}',
    "a huge integer": b'{"payment_id":"bad","account":"a","amount":' + b"9" * 5000 + b',"currency":"EUR"}',
    "2**63": text(amount=2**63),
    "above the limit": text(amount=10**12 + 1),
    "zero": text(amount=0),
    "negative": text(amount=-5),
    "a boolean": text(amount=True),
    "a float": text(amount=12.5),
    "a whole float": b'{"payment_id":"bad","account":"a","amount":12.0,"currency":"EUR"}',
    "a numeric string": text(amount="12"),
    "depth 10,000": b"[" * 10_000 + b"]" * 10_000,
    "depth in a field": b'{"payment_id":"bad","x":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "an unknown field": text(surprise=1),
    "no key": without("payment_id"),
    "no amount": without("amount"),
    "null as key": text(payment_id=None),
    "a number as key": text(payment_id=7),
    "an empty key": text(payment_id=""),
    "a key of 256 bytes": text(payment_id="k" * 256),
    "a key of 10 kB": text(payment_id="k" * 10_000),
    "a key of 200 wide letters": text(payment_id="ü" * 200),
    "an empty account": text(account=""),
    "a long account": text(account="a" * 65),
    "four letters": text(currency="EURO"),
    "no letters": text(currency="12€"),
    "5 MiB": text(account="a" * 5 * MIB),
    "5 MiB of nothing": b" " * 5 * MIB,
}
GOOD_KEYS = [
    "k" * 255,
    "ü" * 127,
    " spaces kept ",
    "emoji 🧾",
    "a/b?c=d&e",
    "'; drop table ledger; --",
    "\\xff",
    "null",
]


@pytest.mark.parametrize("empty_world", [KAFKA], indirect=True)
async def test_on_kafka_each_is_a_dead_letter_under_its_position(empty_world: World) -> None:
    world, shop = empty_world, empty_world.shop
    assert isinstance(world, KafkaOnPostgres)
    shop.start()
    records: list[tuple[bytes | None, bytes | None]] = [
        (b"\xff\x00key", json.dumps(payment("first")).encode())
    ]
    for i, value in enumerate(NOT_A_PAYMENT.values()):
        records += [(b"same", value), (b"same", json.dumps(payment(f"between-{i}")).encode())]
    records += [(None, json.dumps(payment(key)).encode()) for key in GOOD_KEYS]
    records += [(b"twin", None), (b"twin", None), (None, b"{"), (None, b"{")]
    placed = await produce(world.bootstrap, TOPIC, records, partition=0)

    positions = {
        f"{TOPIC}/0/{meta.offset}": (name, value)
        for meta, (name, value) in zip(
            placed[1 : 1 + 2 * len(NOT_A_PAYMENT) : 2], NOT_A_PAYMENT.items(), strict=True
        )
    }

    async def passed() -> bool:
        return (await committed(world.bootstrap, "shop")).get((TOPIC, 0)) == len(records)

    await until(passed, 40, lambda: f"everything is acknowledged\n{shop.logs()}")
    dead = {row["key"]: row for row in shop.listed("--state", "dead")}
    missing = {name for position, (name, _) in positions.items() if position not in dead}
    assert not missing, "each has an entry under topic/partition/offset"
    twins = {f"{TOPIC}/0/{meta.offset}" for meta in placed[-4:]}
    assert dead.keys() == positions.keys() | twins, "one each, also where two records are the same bytes"
    for position, (name, _) in positions.items():
        row = dead[position]
        assert row["reason"], name
        assert len(row["reason"]) < 300, name
        assert row["reason"].isprintable(), name
        assert row["has_bytes"], name
        assert (row["handler"], row["tenant"], row["keyed"]) == (TOPIC, "public", False), name
    for name in ("tombstone", "empty", "not UTF-8", "5 MiB", "a key of 10 kB", "zeros"):
        position = next(place for place, (each, _) in positions.items() if each == name)
        assert bytes_of(shop.shown(position)) == NOT_A_PAYMENT[name], name
        assert shop.shown(position)["message"]["position"] == position
    again = f"{TOPIC}/0/3"
    shop.ok("inbox", "redrive", again, "--reason", "look once more")

    async def looked_at() -> bool:
        found = shop.shown(again)
        return found["state"] == "dead" and [line["event"] for line in found["story"]] == ["redrive", "bury"]

    await until(looked_at, 15, lambda: f"redriven and refused again: {shop.shown(again)}")
    good = ["first", *(f"between-{i}" for i in range(len(NOT_A_PAYMENT))), *GOOD_KEYS]
    assert sorted(row[0] for row in await world.query("select payment_id from ledger")) == sorted(good)
    assert all(worker.poll() is None for worker in shop.workers)
    assert "Traceback" not in shop.logs()


def bytes_of(shown: dict[str, Any]) -> bytes | None:
    message = shown["message"]
    if message["value"] is None:
        return None
    if message["value_encoding"] == "base64":
        return base64.b64decode(message["value"])
    value: str = message["value"]
    return value.encode()


@pytest.mark.parametrize("empty_world", [SQLITE, POSTGRES], indirect=True)
async def test_embedded_each_is_a_dead_letter_of_its_own(empty_world: World) -> None:
    world, shop = empty_world, empty_world.shop
    # a line each: what holds no line end, is not blank, and is no tombstone
    values = {n: v for n, v in NOT_A_PAYMENT.items() if v and not v.isspace() and b"\n" not in v}
    lines = [json.dumps(payment("first")).encode(), *values.values()]
    lines += [json.dumps(payment(key)).encode() for key in GOOD_KEYS]
    (shop.folder / "lines").write_bytes(b"\n".join(lines) + b"\n")
    shop.ok("publish", shop.app, TOPIC, "--file", "lines", "--key-field", "account")
    shop.start()
    await come_to(world, TOPIC, "first", "done")

    async def all_there() -> bool:
        return (await world.query("select count(*) from ledger"))[0][0] == 1 + len(GOOD_KEYS)

    await until(all_there, 20, lambda: f"the good ones\n{shop.logs()}")
    dead = shop.listed("--state", "dead")
    assert len(dead) == len(values)
    kept = [
        bytes_of(shop.shown(row["id"])) for row in dead if row["reason"].startswith(("key:", "decode: not"))
    ]
    assert set(kept) <= set(values.values())
    assert all(row["key"] == row["id"] for row in dead), "listed under the entry's id"
    assert "Traceback" not in shop.logs()


@pytest.mark.parametrize("empty_world", [KAFKA], indirect=True)
async def test_headers_of_any_kind(empty_world: World) -> None:
    world, shop = empty_world, empty_world.shop
    assert isinstance(world, KafkaOnPostgres)
    shop.start()
    bad: list[list[tuple[str, bytes | None]]] = [
        [("tenant", b"\xff\xfe")],
        [("tenant", b"")],
        [("tenant", b"t" * 5_000)],
        [("tenant", b"a\x00b")],
        [("tenant", b"line\nline")],
        [("tenant", None)],
    ]
    for i, headers in enumerate(bad):
        await produce(world.bootstrap, TOPIC, [(None, json.dumps(payment(f"h-{i}")).encode())], headers, 0)
    fine: list[tuple[str, bytes | None]] = [("ordering-key", b"\xff"), ("message-id", b"x" * 300), ("", b""),
                                            ("x", None), ("x", b"twice")]  # fmt: skip
    await produce(world.bootstrap, TOPIC, [(None, json.dumps(payment("fine")).encode())], fine, 0)
    await come_to(world, TOPIC, "fine", "done")
    found = {row["key"]: row for row in shop.listed("--handler", TOPIC)}
    for i in range(len(bad)):
        states = [row["state"] for key, row in found.items() if key in {f"h-{i}", f"{TOPIC}/0/{i}"}]
        assert len(states) == 1, f"{bad[i]}: done as public or a dead letter, never lost"
        if states == ["done"]:
            assert (await ledger(world, f"h-{i}"))[0][0] == "public"
    assert "Traceback" not in shop.logs()
