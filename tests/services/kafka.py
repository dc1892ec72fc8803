"""Apache Kafka: one KRaft node that is broker and controller."""

import asyncio
import itertools
import os
import struct
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code
from aiokafka.protocol.offset import OffsetRequest

from tests.services import packages
from tests.services.base import HOST, Service, answers, folder_for, free_port
from tests.services.docker import Container
from tests.services.process import LocalProcess

VERSION = "4.3.1"
CLUSTER = "dGVzdC1zZXJ2aWNlcy0wMQ"  # any 16 bytes in base64
LATEST = -1  # the offset that the next record will have
PATIENCE = 30.0
HEAP = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "broker.session.timeout.ms": "2000",  # after a kill, the broker may come back when its old session has ended
    "broker.heartbeat.interval.ms": "500",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "5",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "5",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "auto.create.topics.enable": "false",
}


class Kafka(Service):
    name = "kafka"
    variable = "TEST_KAFKA"
    _numbers = itertools.count(1)

    @property
    def bootstrap(self) -> str:
        return self.url

    async def fresh_topic(self, partitions: int = 1, **config: str) -> str:
        """The name of a new, empty topic; `config` as `retention_ms="1000"`."""
        name = f"test-{os.getpid()}-{next(self._numbers)}"
        await self.create_topics({name: partitions}, **config)
        return name

    async def create_topics(self, topics: Mapping[str, int], **config: str) -> None:
        """Create topics by their numbers of partitions; returns when every partition has a leader that serves it."""
        settings = {name.replace("_", "."): value for name, value in config.items()}
        new = [NewTopic(name, count, 1, topic_configs=settings) for name, count in topics.items()]
        admin = AIOKafkaAdminClient(bootstrap_servers=self.url)
        await admin.start()
        try:
            created: Any = await admin.create_topics(new)
            for name, code, *_ in created.topic_errors:
                if code:
                    raise for_code(code)(name)
            deadline = time.monotonic() + PATIENCE
            while not await _served(admin, list(topics)):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no leader for a partition of {', '.join(topics)}")
                await asyncio.sleep(0.02)
        finally:
            await admin.close()

    # ------------------------------------------------------------------------------------------------ where it is

    @classmethod
    def image(cls) -> str:
        return f"apache/kafka:{VERSION}"

    @classmethod
    def in_container(cls) -> Self:
        port = free_port()
        settings = SETTINGS | _listeners(f"0.0.0.0:{port}", port, "127.0.0.1:9093")
        environment = {"KAFKA_" + name.replace(".", "_").upper(): value for name, value in settings.items()}
        container = Container(cls.image(), port, port, _is_up(port), environment | {"CLUSTER_ID": CLUSTER})
        return cls(f"{HOST}:{port}", container)

    @classmethod
    def on_this_machine(cls) -> Self:
        jars, port = cls.packages(), free_port()
        folder = folder_for("kafka")
        settings = SETTINGS | _listeners(f"{HOST}:{port}", port, f"{HOST}:{free_port()}")
        settings["log.dirs"] = str(folder / "data")
        file = folder / "server.properties"
        file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        java = [str(packages.java()), *HEAP, "-cp", f"{jars}/*"]
        packages.run(
            *java, "kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER, "--config", str(file)
        )
        command = [*java, "kafka.Kafka", str(file)]
        return cls(f"{HOST}:{port}", LocalProcess(f"a local Kafka {VERSION}", command, folder, _is_up(port)))

    @classmethod
    def packages(cls) -> Path:
        """The folder with the jars."""
        packages.java()
        return packages.maven("org.apache.kafka", "kafka_2.13", VERSION)


def _listeners(bind: str, port: int, controller: str) -> dict[str, str]:
    return {
        "listeners": f"PLAINTEXT://{bind},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.quorum.voters": f"1@{controller}",
    }


def _is_up(port: int):
    """Up is a broker that names a coordinator for a group: its log of offsets is made by the first who asks for one."""
    group = b"is-up"
    request = (
        struct.pack("!hhihh", 10, 0, 4711, -1, len(group)) + group
    )  # FindCoordinator 0, correlation id, no client
    hello = struct.pack("!i", len(request)) + request
    return lambda: answers(port, hello, struct.pack("!ih", 4711, 0), offset=4)


async def _served(admin: AIOKafkaAdminClient, topics: list[str]) -> bool:
    """Whether every partition can be read and written: a broker tells of a new one before it has made its log."""
    described = await admin.describe_topics(topics)
    if not all(map(_led, described)):
        return False
    led: dict[int, dict[str, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
    for topic in described:
        for partition in topic["partitions"]:
            led[partition["leader"]][topic["topic"]].append((partition["partition"], LATEST))
    for leader, places in led.items():
        answer: Any = await admin._client.send(leader, OffsetRequest(-1, 0, list(places.items())))
        if any(code for _, partitions in answer.topics for _, code, *_ in partitions):
            return False
    return True


def _led(topic: Mapping[str, Any]) -> bool:
    partitions = topic["partitions"]
    return topic["error_code"] == 0 and bool(partitions) and all(p["leader"] >= 0 for p in partitions)
