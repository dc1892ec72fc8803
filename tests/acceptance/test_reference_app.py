"""The reference application from outside: what its contract says of topics, handlers, inbox verbs and records.

One worker serves all tests of a deployment, so each test has keys of its own.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.acceptance.conftest import KAFKA
from tests.acceptance.looks import come_to, ledger, payment, told
from tests.acceptance.shop import committed, produce, read_all, until
from tests.acceptance.worlds import KafkaOnPostgres, World

pytestmark = pytest.mark.timeout(90)

ON_KAFKA = pytest.mark.parametrize("world", [KAFKA], indirect=True)


# ------------------------------------------------------------------------------------------------------- payments


async def test_a_payment_sent_five_times_is_one_row_and_one_line(world: World) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    again = (
        '{"currency":"eur", "amount":1250,"account":"alice","payment_id":"once"}'  # re-ordered, lower case
    )
    await world.send("payments.requested", [payment("once"), payment("once"), again])
    await come_to(world, "payments.settled", "once", "done")
    await world.send("payments.requested", [again, payment("once")])
    await world.send("payments.requested", [payment("once-after")])
    await come_to(world, "payments.requested", "once", "done", "done")

    assert await ledger(world, "once") == [("public", "alice", 1250, "EUR", world.source)]
    [(created,)] = await world.query("select created_at from ledger where payment_id = 'once'")
    created = datetime.fromisoformat(created) if isinstance(created, str) else created
    assert before < created < datetime.now(UTC) + timedelta(seconds=1)
    [line] = told(world, "payments.settled", "once")
    assert line.keys() == {"kind", "key", "idempotency_key", "token", "attempt", "pid", "at"}
    assert (line["attempt"], line["pid"]) == (1, world.shop.workers[0].pid)
    assert isinstance(line["token"], int)
    shown = world.shop.shown("once", "--handler", "payments.requested")
    assert (shown["state"], shown["attempts"], shown["tenant"], shown["reason"]) == (
        "done",
        1,
        "public",
        None,
    )
    assert shown["result"] == {
        "payment_id": "once", "status": "settled", "account": "alice", "amount": 1250, "currency": "EUR",
    }  # fmt: skip
    assert shown["app"] == "shop"


async def test_the_same_payment_of_two_tenants_is_two_payments(world: World) -> None:
    for tenant in (None, "acme", "zulu"):
        await world.send("payments.requested", [payment("shared")] * 2, tenant=tenant)
    await come_to(world, "payments.settled", "shared", "done", "done", "done")
    await come_to(world, "payments.requested", "shared", "done", "done", "done")
    assert sorted(row[0] for row in await ledger(world, "shared")) == ["acme", "public", "zulu"]

    ambiguous = world.shop.command("inbox", "show", "shared", "-o", "json")
    assert (ambiguous.returncode, ambiguous.stdout) == (4, "")
    assert ambiguous.stderr.count("payments.requested") >= 3, "the candidates are named"
    shown = world.shop.shown("shared", "--handler", "payments.requested", "--tenant", "acme")
    assert (shown["tenant"], shown["handler"]) == ("acme", "payments.requested")


async def test_the_same_key_with_another_payload_is_a_dead_letter_of_its_own(world: World) -> None:
    await world.send("payments.requested", [payment("clash")])
    await come_to(world, "payments.requested", "clash", "done")
    others = [
        payment("clash", **other) for other in ({"amount": 1251}, {"account": "bob"}, {"currency": "USD"})
    ]
    await world.send("payments.requested", [*others, payment("clash"), payment("clash+")])
    await come_to(world, "payments.requested", "clash", "done", "dead", "dead", "dead", "done")
    assert len(await ledger(world, "clash")) == 1
    assert world.shop.shown("clash", "--handler", "payments.requested")["state"] == "done"

    dead = [
        row for row in world.shop.listed("--state", "dead") if (row["reason"] or "").startswith("conflict")
    ]
    details = [world.shop.shown(row["id"]) for row in dead]
    assert sorted(json.dumps(json.loads(each["message"]["value"])) for each in details) == sorted(
        map(json.dumps, others)
    ), "each has its bytes"
    redriven = world.shop.command("inbox", "redrive", dead[0]["id"], "--reason", "try it")
    assert (redriven.returncode, redriven.stdout) == (1, ""), "it would be refused again"
    kept = world.shop.shown("clash", "--handler", "payments.requested")["id"]
    assert f"another payload has this key, in the entry {kept}" in redriven.stderr
    await come_to(world, "payments.requested", "clash", "done", "dead", "dead", "dead", "done")
    assert len(await ledger(world, "clash")) == 1


async def test_a_refusal_is_a_dead_letter_and_can_be_redriven(world: World) -> None:
    await world.send("payments.requested", [payment("refused", account="blocked"), payment("refused+")])
    await come_to(world, "payments.requested", "refused", "dead", "done")
    shown = world.shop.shown("refused")
    assert (shown["state"], shown["reason"], shown["has_bytes"]) == ("dead", "account blocked", True)
    assert json.loads(shown["message"]["value"])["account"] == "blocked"
    world.shop.ok("inbox", "redrive", "refused", "--reason", "the account is open again")

    async def again() -> bool:
        return [line["event"] for line in world.shop.shown("refused")["story"]].count("bury") == 2

    await until(again, 25, "it was redriven, run and refused once more")
    story = world.shop.shown("refused")["story"]
    assert "the account is open again" in [line["reason"] for line in story]
    assert await ledger(world, "refused") == []


# ------------------------------------------------------------------------------------------- orders and receipts


async def test_an_order_requests_its_payment(world: World) -> None:
    order = {"order_id": "o-1", "account": "bob", "amount": 99, "currency": "EUR",
             "lines": [{"sku": "x", "qty": 2}]}  # fmt: skip
    await world.send("orders.placed", [order, order])
    await come_to(world, "payments.settled", "order-o-1", "done")
    assert await world.query("select tenant, account, amount from orders where order_id = 'o-1'") == [
        ("public", "bob", 99)
    ]
    assert await ledger(world, "order-o-1") == [("public", "bob", 99, "EUR", world.source)]
    assert len(told(world, "payments.settled", "order-o-1")) == 1
    await world.send("orders.placed", [order | {"lines": []}])
    await come_to(world, "orders.placed", "o-1", "done", "dead")


async def test_an_order_whose_payment_could_have_no_key_is_refused_whole(world: World) -> None:
    longest = "ä" * 124 + "x"
    order = {"account": "bob", "amount": 99, "currency": "EUR", "lines": []}
    await world.send("orders.placed", [order | {"order_id": longest}, order | {"order_id": longest + "y"}])
    await come_to(world, "payments.settled", f"order-{longest}", "done")
    await come_to(world, "orders.placed", longest, "done", "dead")
    assert await world.query("select count(*) from orders where account = 'bob' and order_id like 'ä%'") == [
        (1,)
    ]


async def test_an_order_keeps_its_tenant(world: World) -> None:
    order = {"order_id": "o-2", "account": "bob", "amount": 99, "currency": "EUR", "lines": []}
    await world.send("orders.placed", [order], tenant="acme")
    await come_to(world, "payments.settled", "order-o-2", "done")
    assert await world.query("select tenant from orders where order_id = 'o-2'") == [("acme",)]
    [(tenant, *_)] = await ledger(world, "order-o-2")
    assert tenant == "acme", "the payment that an order requests belongs to the order's tenant"


async def test_receipts_fail_as_often_as_they_are_told(world: World) -> None:
    wanted = {"r-0": 0, "r-2": 2, "r-4": 4, "r-5": 5}
    await world.send(
        "receipts.send",
        [{"receipt_id": key, "payment_id": "p", "fail_times": fails} for key, fails in wanted.items()],
    )
    await come_to(world, "receipts.send", "r-", "done", "done", "done", "dead")
    for key, fails in wanted.items():
        lines = told(world, "receipts.send", key)
        assert [line["attempt"] for line in lines] == ([fails + 1] if fails < 5 else []), key
        shown = world.shop.shown(key)
        assert (shown["state"], shown["attempts"]) == (("done", fails + 1) if fails < 5 else ("dead", 5))
    assert "mail server is away" in world.shop.shown("r-5")["reason"]

    world.shop.ok("inbox", "redrive", "r-5", "--reason", "the server is back")

    async def again() -> bool:
        return [line["event"] for line in world.shop.shown("r-5")["story"]].count("bury") == 2

    await until(again, 30, "five more attempts")
    shown = world.shop.shown("r-5")
    assert (shown["state"], shown["attempts"]) == ("dead", 5), "counted anew"
    attempts = [line["attempt"] for line in shown["story"] if line["event"] == "retry"]
    assert attempts == [1, 2, 3, 4, 1, 2, 3, 4], "the story keeps the old ones"


# ------------------------------------------------------------------------------------------------- notifications


async def test_a_notification_that_never_returns_holds_up_nobody(world: World) -> None:
    await world.send(
        "notifications.send",
        [{"notification_id": f"n-{i}", "to": "x", "text": "unknown" if i == 1 else "hi"} for i in range(5)],
    )
    await come_to(world, "notifications.send", "n-", "done", "running", "done", "done", "done")
    assert len(told(world, "notifications.send", "n-1")) == 1
    assert world.shop.shown("n-1")["state"] == "running"
    assert world.shop.command("inbox", "resolve", "n-1", "--as", "done", "--reason", "x").returncode == 1


# ---------------------------------------------------------------------------------------------------- inbox verbs


def test_unknown_keys_and_wrong_states_have_exit_codes_of_their_own(world: World) -> None:
    for verb in (["show"], ["redrive", "--reason", "x"], ["resolve", "--as", "dead", "--reason", "x"]):
        done = world.shop.command("inbox", verb[0], "nobody", *verb[1:])
        assert (done.returncode, done.stdout) == (3, ""), done
        assert "nobody" in done.stderr
    assert world.shop.command("inbox", "redrive", "once").returncode == 2, "a reason is needed"
    assert world.shop.command("inbox", "list", "--state", "broken").returncode == 2


async def test_a_list_has_no_silent_limit(world: World) -> None:
    await world.send(
        "notifications.send", [{"notification_id": f"many-{i}", "to": "x", "text": "t"} for i in range(1_200)]
    )
    await come_to(world, "notifications.send", "many-", *["done"] * 1_200)
    listed = world.shop.listed("--handler", "notifications.send", "--state", "done")
    assert sum(row["key"].startswith("many-") for row in listed) == 1_200
    assert {"handler", "tenant", "key", "state", "attempts", "reason"} <= listed[0].keys()
    lines = world.shop.ok("inbox", "list", "--handler", "notifications.send", "-o", "jsonl", "--limit", "7")
    assert len([json.loads(line) for line in lines.splitlines()]) == 7
    assert len(world.shop.listed("--limit", "3")) == 3


# ------------------------------------------------------------------------------------------- outgoing on Kafka


@ON_KAFKA
async def test_outgoing_records_name_themselves_and_keep_their_order(world: KafkaOnPostgres) -> None:
    stream = [payment(f"out-{i}", account=f"acc-{i % 3}") for i in range(300)]
    await produce(world.bootstrap, "payments.requested",
                  [(p["account"].encode(), json.dumps(p).encode()) for p in stream])  # fmt: skip
    await come_to(world, "payments.settled", "out-", *["done"] * 300)
    by_account: dict[str, list[Any]] = {}
    for record in await read_all(world.bootstrap, "payments.settled"):
        value, headers = json.loads(record.value), dict(record.headers)
        assert value.keys() == {"payment_id", "account", "amount", "currency", "settled_at"}
        assert record.key.decode() == value["account"] == headers["ordering-key"].decode()
        assert headers["message-id"]
        if value["payment_id"].startswith("out-"):
            by_account.setdefault(value["account"], []).append((value["payment_id"], headers["message-id"]))
    for account, sent in by_account.items():
        numbers = [int(key.removeprefix("out-")) for key, _ in sent]
        assert numbers == sorted(numbers), f"{account}: requested in order, announced in order"
        assert len({message_id for _, message_id in sent}) == len(sent) == 100


@ON_KAFKA
async def test_offsets_are_kept_under_the_apps_name(world: KafkaOnPostgres) -> None:
    await world.send("payments.requested", [payment("offset")])
    await come_to(world, "payments.requested", "offset", "done")

    async def acked() -> bool:
        offsets = await committed(world.bootstrap, "shop")
        return sum(n for (topic, _), n in offsets.items() if topic == "payments.requested") == len(
            await read_all(world.bootstrap, "payments.requested")
        )

    await until(acked, 30, "everything is acknowledged in the consumer group 'shop'")


async def test_migrating_under_a_running_worker_changes_nothing(world: World) -> None:
    world.shop.migrate()
    await world.send("payments.requested", [payment("migrated")])
    await come_to(world, "payments.requested", "migrated", "done")
    assert len(await ledger(world, "migrated")) == 1


def test_what_cannot_be_published_is_refused(world: World) -> None:
    for wrong in (
        ["--file", "missing.jsonl"],
        [],
        ["{}", "--header", "no-equals-sign"],
    ):
        done = world.shop.command("publish", world.shop.app, "payments.requested", *wrong)
        assert (done.returncode, done.stdout) == (2, ""), wrong
        assert "Traceback" not in done.stderr
