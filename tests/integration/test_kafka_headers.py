"""Header names that are not UTF-8: a broker takes them, the client library does not, and no partition may stop for them."""

import contextlib
import gzip
import itertools
import struct
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.codec import lz4_encode, snappy_encode, zstd_encode
from aiokafka.errors import CorruptRecordException
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from msgspec import Struct

from consumer import App, AtMostOnce, Key, Settings
from consumer.brokers.kafka import KafkaSource
from consumer.brokers.kafka.partition import Partition
from consumer.brokers.kafka.rescue import rescue
from consumer.brokers.kafka.tolerant import TolerantRecords, shown
from consumer.entry import State
from consumer.message import Message
from consumer.stores import open_store
from tests.integration.kafka_tools import eventually, has_committed, member, produce, producer, tp
from tests.services import Kafka

MADE = 1_700_000_000_000
PLACE = "PLACE-OF-BAD-NAME!"
NAME = b"\xff\xfe\\n\xc3(" + b"\xf0" * 12
assert len(NAME) == len(PLACE)

CODECS: dict[str, tuple[int, Any]] = {
    "plain": (0, bytes),
    "gzip": (1, gzip.compress),
    "snappy": (2, snappy_encode),
    "lz4": (3, lz4_encode),
    "zstd": (4, zstd_encode),
}


def batch(values: Sequence[bytes], codec: str = "plain", transaction: Any = None) -> bytes:
    """One record batch; the values with `bad` in them have a header whose name is `NAME`.

    Args:
        values: one record each.
        codec: of the records.
        transaction: producer id, epoch and first sequence number.
    """
    number, compress = CODECS[codec]
    producer_id, epoch, sequence = transaction or (-1, -1, -1)
    builder = DefaultRecordBatchBuilder(2, 0, transaction is not None, producer_id, epoch, sequence, 2**20)
    for place, value in enumerate(values):
        headers = [("first", b"1"), (PLACE if b"bad" in value else "second", b"\x00\xff")]
        built = builder.append(place, MADE + place, b"key-%d" % place, value, [*headers, ("third", None)])
        assert built is not None
    raw = bytes(builder.build())
    body = compress(raw[61:].replace(PLACE.encode(), NAME))
    head = bytearray(raw[:61])
    head[8:12] = struct.pack(">i", len(head) + len(body) - 12)
    head[22] |= number
    head[17:21] = struct.pack(">I", calc_crc32c(bytes(head[21:]) + body))
    return bytes(head) + body


def moved(raw: bytes, base: int, last: int | None = None) -> bytes:
    """The batch `raw` at the offset `base`, with another last offset and the checksum that belongs to it."""
    head = bytearray(raw)
    head[:8] = struct.pack(">q", base)
    if last is not None:
        head[23:27] = struct.pack(">i", last - base)
    head[17:21] = struct.pack(">I", calc_crc32c(bytes(head[21:])))
    return bytes(head)


async def append(kafka: Kafka, topic: str, raw: bytes, transactional_id: str | None = None) -> None:
    client = AIOKafkaClient(bootstrap_servers=kafka.bootstrap)
    await client.bootstrap()
    try:
        await client._wait_on_metadata(topic)
        request = ProduceRequest(transactional_id, -1, 5000, [(topic, [(0, raw)])])
        answer = await client.send(client.cluster.leader_for_partition(tp(topic)), request)
        assert answer.topics[0][1][0][1] == 0, answer
    finally:
        await client.close()


def source(kafka: Kafka, topic: str, **options: Any) -> KafkaSource:
    return KafkaSource(kafka.bootstrap, topic, session_timeout=6.0, rebalance_timeout=12.0, **options)


LAYOUTS = {
    "first": [b"bad", b"1", b"2"],
    "middle": [b"0", b"1", b"bad", b"3", b"4"],
    "last": [b"0", b"1", b"bad"],
    "two apart": [b"0", b"bad", b"2", b"bad", b"4"],
    "two together": [b"0", b"bad", b"bad", b"3"],
    "alone": [b"bad"],
}


@pytest.mark.parametrize("codec", ["plain", "gzip"])
@pytest.mark.parametrize("layout", LAYOUTS)
async def test_it_is_delivered_as_unreadable_between_its_neighbours(kafka: Kafka, layout: str, codec: str):
    topic = await kafka.fresh_topic(retention_ms="-1")
    values = LAYOUTS[layout]
    await produce(kafka.bootstrap, topic, [b"before"])
    await append(kafka, topic, batch(values, codec))
    await produce(kafka.bootstrap, topic, [b"after"])
    async with member(source(kafka, topic), topic, acks=lambda _: True) as one:
        await one.has(len(values) + 2)
        await has_committed(kafka.bootstrap, topic, {0: len(values) + 2})
        assert one.source.healthy
        assert one.source.troubles == []
    assert one.values == [b"before", *values, b"after"]
    assert one.offsets() == list(range(len(values) + 2))
    for place, delivery in enumerate(one.came[1:-1]):
        message, bad = delivery.message, values[place] == b"bad"
        name = shown(NAME) if bad else "second"
        assert message.headers == (("first", b"1"), (name, b"\x00\xff"), ("third", b""))
        assert (message.record_key, message.timestamp) == (b"key-%d" % place, (MADE + place) / 1000)
        assert delivery.unreadable == (f"header name {NAME!r} is not UTF-8" if bad else None)


async def test_the_in_hand_limit_holds(kafka: Kafka):
    topic = await kafka.fresh_topic(retention_ms="-1")
    await append(kafka, topic, batch([b"0", *[b"bad"] * 20]))
    async with member(source(kafka, topic, in_hand_limit=5), topic) as one:
        await one.has(5)
        for delivery, count in zip(one.came, range(6, 22), strict=False):
            assert len(one.came) == count - 1
            one.source.ack(delivery)
            await one.has(count)
    assert one.offsets() == list(range(21))


async def test_transactions_are_read_as_the_library_reads_them(kafka: Kafka):
    """Aborted batches stay unseen, with bad names and without; committed ones arrive."""
    topic = await kafka.fresh_topic(retention_ms="-1")
    for number, commit in enumerate([False, True, False]):
        async with producer(kafka.bootstrap, transactional_id=topic) as sender:
            await sender.begin_transaction()
            await sender.send_and_wait(topic, b"%d" % number, partition=0)
            state = sender._txn_manager
            raw = batch([b"bad %d" % number] * 2, "gzip", (state.producer_id, state.producer_epoch, 1))
            await append(kafka, topic, raw, topic)
            await (sender.commit_transaction() if commit else sender.abort_transaction())
    await append(kafka, topic, batch([b"bad after", b"end"]))
    async with member(source(kafka, topic), topic, acks=lambda _: True) as one:
        await one.has(5)
        await has_committed(kafka.bootstrap, topic, {0: one.offsets()[-1] + 1})
    assert one.values == [b"1", b"bad 1", b"bad 1", b"bad after", b"end"]
    assert [delivery.unreadable is not None for delivery in one.came] == [False, True, True, True, False]


async def test_the_broker_s_time_counts_where_the_topic_says_so(kafka: Kafka):
    topic = await kafka.fresh_topic(retention_ms="-1", message_timestamp_type="LogAppendTime")
    await append(kafka, topic, batch([b"bad", b"1"]))
    async with member(source(kafka, topic), topic) as one:
        await one.has(2)
    bad, good = one.came
    assert bad.taken_at is not None
    assert bad.taken_at == bad.message.timestamp == good.taken_at
    assert bad.taken_at > MADE / 1000 + 1


class Note(Struct):
    id: str


async def test_it_is_a_dead_letter_with_its_bytes_under_its_position(kafka: Kafka, tmp_path: Path):
    topic = await kafka.fresh_topic(retention_ms="-1")
    ran: list[str] = []
    app = App("shop")

    @app.on(topic, key=Key.field("id"), mode=AtMostOnce())
    async def take(note: Note) -> None:
        ran.append(note.id)

    how = Settings(
        store=f"sqlite:///{tmp_path}/s.db", broker=f"kafka://{kafka.bootstrap}", consumer_group=topic
    )
    store = open_store(how.store, app.name)
    await store.migrate()
    bad = b'{"id":"bad"}'
    await append(kafka, topic, batch([b'{"id":"b"}', bad, b'{"id":"c"}']))
    async with app.running(how, consume=True):
        await has_committed(kafka.bootstrap, topic, {0: 3})
        await eventually(lambda: len(ran) == 2, "the neighbours ran")
    assert sorted(ran) == ["b", "c"]
    [entry] = await store.operator.entries(app="shop", states=[State.DEAD])
    assert entry.key == f"{topic}/0/1".encode()
    assert entry.reason == f"decode: header name {NAME!r} is not UTF-8"
    assert entry.message is not None
    kept = Message.decode(entry.message)
    assert (kept.value, kept.record_key) == (bad, b"key-1")
    assert kept.headers == (("first", b"1"), (shown(NAME), b"\x00\xff"), ("third", b""))
    assert await store.operator.redrive(entry.identity, entry.token, "its name does not matter")
    async with app.running(how, consume=True):
        await eventually(lambda: "bad" in ran, "somebody who knows better had it run")
    assert sorted(ran) == ["b", "bad", "c"]
    await store.close()


# --- what the leader may answer ---------------------------------------------------------------------------------------


class Answers:
    """A consumer at `position` whose leader answers a fetch with `data`."""

    def __init__(
        self, data: bytes, *, at: int = 0, leader: int = 0, version: int = 11, fault: int = 0
    ) -> None:
        self._client = self.cluster = self
        self.at, self.leader = at, leader
        rest = [0, 0, [], -1, data] if version >= 11 else [0, 0, [], data]
        self.answer = SimpleNamespace(API_VERSION=version, topics=[("t", [(0, fault, 9, *rest)])])

    async def position(self, _: Any) -> int:
        return self.at

    def leader_for_partition(self, _: Any) -> int:
        return self.leader

    async def send(self, *_: Any) -> Any:
        return self.answer


async def rescued(consumer: Any) -> tuple[list[bytes | None], int] | None:
    found = await rescue(consumer, Partition(tp("t"), 1))
    return None if found is None else ([one.message.value for one in found.deliveries], found.behind)


BAD = batch([b"0", b"bad", b"2"])


@pytest.mark.parametrize("version", [4, 10, 11])
async def test_the_rest_of_the_batch_is_rescued_and_no_more(version: int):
    assert await rescued(Answers(BAD + moved(BAD, 3), at=1, version=version)) == ([b"bad", b"2"], 3)


async def test_a_sound_batch_behind_one_of_which_nothing_is_left_is_rescued_too():
    """Compaction takes records out of a batch and leaves its last offset."""
    assert await rescued(Answers(moved(BAD, 0, last=9) + moved(batch([b"10"]), 10), at=3)) == ([b"10"], 11)
    assert await rescued(Answers(moved(BAD, 0, last=9), at=3)) == ([], 10)


@pytest.mark.parametrize(
    "consumer",
    [
        Answers(BAD, leader=-1),
        Answers(BAD, version=3),
        Answers(BAD, fault=6),
        Answers(b""),
        Answers(BAD[:-1]),
        Answers(BAD[:-1] + b"\x01"),
        Answers(batch([b"0", b"1"])),
    ],
    ids=["no leader", "an old broker", "not the leader", "nothing", "cut off", "a wrong checksum", "sound"],
)
async def test_what_cannot_be_had_is_not_guessed(consumer: Answers):
    assert await rescued(consumer) is None


async def test_what_comes_before_damage_is_rescued_and_the_damage_is_not_passed():
    damaged = bytearray(BAD)
    damaged[60] = 4  # it says that there is a fourth record
    whole = moved(bytes(damaged), 0)
    assert await rescued(Answers(whole, at=1)) == ([b"bad", b"2"], 3)
    assert await rescued(Answers(whole, at=3)) is None


# --- the parser alone -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS)
def test_sound_records_are_read_as_the_library_reads_them(codec: str):
    raw = batch([b"0", b"", b"x" * 300], codec) + batch([b"3"], codec)
    ours, theirs = TolerantRecords(raw), cast("Any", MemoryRecords(raw))
    names = ("offset", "timestamp", "timestamp_type", "key", "value", "checksum")
    while theirs.has_next():
        assert ours.has_next()
        own, known = ours.next_batch(), theirs.next_batch()
        assert own.validate_crc()
        for one, other in zip(own, known, strict=True):
            assert [getattr(one, name) for name in names] == [getattr(other, name) for name in names]
            assert list(one.headers) == other.headers
    assert not ours.has_next()
    assert ours.bad_names == {}


@pytest.mark.parametrize("codec", CODECS)
def test_names_are_told_by_their_offset(codec: str):
    records = TolerantRecords(batch([b"0", b"bad", b"2"], codec))
    assert [record.value for record in records.next_batch()] == [b"0", b"bad", b"2"]
    assert records.bad_names == {1: NAME}


def test_a_name_is_shown_so_that_its_bytes_can_be_told():
    assert shown(b"\xff\\xff\xc3\xa4") == "\\xff\\\\xff\xe4"
    assert shown(b"\xff") != shown(rb"\xff")


def test_what_is_cut_off_or_changed_is_never_read_beyond_its_end():
    raw = batch([b"0", b"bad", b"2"])
    for length in range(len(raw)):
        assert not TolerantRecords(raw[:length]).has_next()
    for place, value in itertools.product(range(57, len(raw)), (0, 1, 0x7F, 0x80, 0xFF)):
        changed = TolerantRecords(raw[:place] + bytes([value]) + raw[place + 1 :])
        with contextlib.suppress(CorruptRecordException):
            assert sum(len(record.value or b"") for record in changed.next_batch()) < len(raw)


def test_an_older_format_is_not_guessed_at():
    raw = bytearray(batch([b"0"]))
    raw[16] = 1
    with pytest.raises(CorruptRecordException, match="not a batch of message format 2"):
        TolerantRecords(bytes(raw)).next_batch()
