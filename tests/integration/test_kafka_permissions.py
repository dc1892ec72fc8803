"""Permissions that a real broker takes away and gives back while a worker runs: it is not ready, and goes on by itself."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest

from consumer import App, AtMostOnce, Key
from consumer.brokers.kafka import Access, KafkaSink, KafkaSource
from consumer.message import Outgoing
from consumer.worker import intake
from tests.integration.kafka_tools import eventually
from tests.path.kit import Order, Shop, opened
from tests.services import Unavailable, required
from tests.services.kafka import Kafka
from tests.services.secured import PASSWORD, USER, Secured, secured_kafka

pytestmark = pytest.mark.timeout(120)

TOPIC, GROUP = 2, 3
LITERAL, ALL, ALLOW = 3, 2, 3
REFUSES = ["the broker refuses access: the log says to what"]


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    authorizer = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
    try:
        with secured_kafka(authorizer_class_name=authorizer, super_users="User:ANONYMOUS") as one:
            yield one
    except Unavailable as error:
        if required():
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))  # CI sets REQUIRE_SERVICES: there it fails


class Broker:
    """Who may do what there, as its administrator sees it."""

    def __init__(self, secured: Secured) -> None:
        self._place = secured.listeners["PLAINTEXT"]
        self._sink = KafkaSink(self._place)
        self._number = 0

    async def permit(self, kind: int, name: str, *, taken_away: bool = False) -> None:
        """Change it, and return when the broker acts by it: it hears of it from the controller, which has answered before."""
        request = DeleteAclsRequest if taken_away else CreateAclsRequest
        rule = (kind, name, LITERAL, f"User:{USER}", "*", ALL, ALLOW)
        client = AIOKafkaClient(bootstrap_servers=self._place)
        await client.bootstrap()
        node = client.get_random_node()
        try:
            answer = await client.send(node, request(*rule))
            [(code, *_)] = answer.filter_responses if taken_away else answer.creation_responses
            assert code == 0, answer

            async def in_force() -> bool:
                return bool((await client.send(node, DescribeAclsRequest(*rule))).resources) != taken_away

            await eventually(in_force, "the broker knows it")
        finally:
            await client.close()

    async def take_away(self, kind: int, name: str) -> None:
        await self.permit(kind, name, taken_away=True)

    async def send(self, topic: str, key: str) -> None:
        self._number += 1
        message = Outgoing(self._number.to_bytes(16), topic, b'{"id":"%s"}' % key.encode())
        [answer] = await self._sink.publish([(None, message)])
        assert answer.refused is None

    async def close(self) -> None:
        await self._sink.stop()


def shop(name: str) -> App:
    app = App(name)
    for topic in (f"{name}-orders", f"{name}-mails"):

        @app.on(topic, key=Key.field("id"), mode=AtMostOnce(), name=topic)
        async def taken(order: Order) -> None: ...

    return app


async def done(at: Shop, key: str) -> None:
    await at.until(lambda: at.watch.of(key), 40)


@pytest.mark.parametrize("what", ["topic", "group"])
async def test_a_permission_that_is_taken_away_and_given_back(
    secured: Secured,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    """Mutant: a refusal ends the worker."""
    monkeypatch.setattr(intake, "REFUSED_FOR", 12.0)
    caplog.set_level(logging.INFO, "consumer")
    name = f"permits-{what}"
    orders, mails = f"{name}-orders", f"{name}-mails"
    # `None`: the server is `secured`'s, and only its address is needed here.
    await Kafka(secured.listeners["PLAINTEXT"], None).create_topics({orders: 1, mails: 1})  # type: ignore[arg-type]
    broker = Broker(secured)
    for kind, named in ((TOPIC, orders), (TOPIC, mails), (GROUP, name)):
        await broker.permit(kind, named)
    access = Access("SASL_PLAINTEXT", "PLAIN", USER, PASSWORD)
    source = KafkaSource(secured.listeners["SASL_PLAINTEXT"], name, access=access)
    lost = (TOPIC, orders) if what == "topic" else (GROUP, name)
    try:
        async with opened(shop(name), f"sqlite:///{tmp_path / 'shop.db'}", source=source) as at:
            runtime = at.running.runtime
            await broker.send(orders, "o-1")
            await done(at, "o-1")
            await broker.take_away(*lost)
            await at.until(lambda: REFUSES[0] in runtime.troubles(), 40)
            await broker.send(orders, "o-2")
            if what == "topic":
                for number in range(3):  # the other topic is not kept waiting
                    await broker.send(mails, f"m-{number}")
                    await done(at, f"m-{number}")
                assert at.watch.of("o-2") == []
                assert runtime.troubles() == REFUSES
            assert runtime.dead() == []
            await broker.permit(*lost)
            await done(at, "o-2")
            await at.until(lambda: runtime.troubles() == [], 40)
    finally:
        await broker.close()
    # What could not be committed comes again, and is recognised.
    runs = [[end for end in at.watch.of(key) if not end.duplicate] for key in ("o-1", "o-2")]
    assert [len(ends) for ends in runs] == [1, 1]
    assert "mend that at the broker" in caplog.text
    assert "by a bug" not in caplog.text
