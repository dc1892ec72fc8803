"""`Outbox`: what leaves, in which order, and who may send it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from consumer.entry import Kind
from consumer.errors import StoreUnavailable
from consumer.message import Outgoing
from consumer.ports.outbox import Pending
from consumer.testing.contract.backend import Backend
from consumer.testing.contract.case import Chapter
from consumer.testing.contract.samples import LATER, Process, claim, only, outgoing, process

__all__ = ["CHAPTER"]

CHAPTER = Chapter("outbox")


async def _publish(here: Process, key: str, messages: Sequence[Outgoing]) -> None:
    wish = claim(key)
    await here.ended(wish, (await here.win(wish)).token, Kind.COMPLETE, outgoing=messages)


def _names(rows: Sequence[Pending]) -> list[str]:
    return [row.outgoing.value.decode() for row in rows]


async def _taken(here: Process, limit: int = 100) -> list[str]:
    return _names(await here.store.outbox.take(here.worker, limit))


@CHAPTER.case("fifo_outbox")
async def messages_leave_in_the_order_of_their_commits(backend: Backend) -> None:
    """Whose commit returned before another's began is taken first; within one commit as published."""
    here, there = await process(backend), await process(backend)
    for number in range(5):
        who = here if number % 2 else there
        await _publish(who, f"k-{number}", [outgoing(f"{number}-{ordinal}") for ordinal in range(3)])
    rows = await here.store.outbox.take(here.worker, 100)
    assert _names(rows) == [f"{number}-{ordinal}" for number in range(5) for ordinal in range(3)]
    assert [row.seq for row in rows] == sorted({row.seq for row in rows})


@CHAPTER.case()
async def what_is_taken_is_the_message(backend: Backend) -> None:
    """Id, topic, value, headers and ordering key as published; the delay is 0 by now."""
    here = await process(backend)
    message = outgoing("one", delay=LATER)
    await _publish(here, "k-1", [message])
    await backend.hasten()
    row = only(await here.store.outbox.take(here.worker, 10))
    assert row.outgoing == outgoing("one", delay=0.0)
    assert row.parked is None
    assert row.created_at > 0
    assert [one.outgoing.delay for one in await here.store.operator.outgoing()] == [0.0]


@CHAPTER.case("fifo_outbox")
async def what_was_not_marked_comes_again(backend: Backend) -> None:
    """Taking is repeatable, and the limit takes the oldest."""
    here = await process(backend)
    await _publish(here, "k-1", [outgoing(f"m-{number}") for number in range(5)])
    assert await _taken(here, 2) == ["m-0", "m-1"]
    assert await _taken(here, 2) == ["m-0", "m-1"]
    assert await _taken(here) == [f"m-{number}" for number in range(5)]


@CHAPTER.case()
async def sent_messages_are_forgotten(backend: Backend) -> None:
    """Idempotent, and unknown ones are no fault."""
    here = await process(backend)
    await _publish(here, "k-1", [outgoing(f"m-{number}") for number in range(3)])
    first, second, third = await here.store.outbox.take(here.worker, 10)
    for _ in range(2):
        await here.store.outbox.sent([first.seq, third.seq])
        assert await _taken(here) == ["m-1"]
    await here.store.outbox.sent([second.seq, second.seq + 1_000_000])
    await here.store.outbox.sent([])
    assert await here.store.operator.outgoing() == []


@CHAPTER.case("fifo_outbox")
async def a_parked_message_holds_back_its_key_only(backend: Backend) -> None:
    """Every later one of the same topic and ordering key waits; all others flow."""
    here = await process(backend)
    await _publish(
        here,
        "k-1",
        [
            outgoing("a-1", "a"),
            outgoing("a-2", "a"),
            outgoing("b-1", "b"),
            outgoing("free-1", None),
            outgoing("a-3", "a"),
            outgoing("elsewhere", "a", topic="other"),
            outgoing("free-2", None),
        ],
    )
    rows = {row.outgoing.value: row.seq for row in await here.store.outbox.take(here.worker, 10)}
    await here.store.outbox.park([(rows[b"a-2"], "too large"), (rows[b"free-1"], "too large")])
    assert sorted(await _taken(here)) == ["a-1", "b-1", "elsewhere", "free-2"]
    await _publish(here, "k-2", [outgoing("a-4", "a"), outgoing("b-2", "b")])
    assert sorted(await _taken(here)) == ["a-1", "b-1", "b-2", "elsewhere", "free-2"]
    await here.store.outbox.park([])


@CHAPTER.case("fifo_outbox")
async def an_unparked_message_leaves_before_what_it_held_back(backend: Backend) -> None:
    """In its old place."""
    here = await process(backend)
    await _publish(here, "k-1", [outgoing(f"m-{number}") for number in range(3)])
    first = (await here.store.outbox.take(here.worker, 1))[0]
    await here.store.outbox.park([(first.seq, "refused")])
    assert await _taken(here) == []
    assert await here.store.operator.unpark([first.seq]) == 1
    assert await _taken(here) == ["m-0", "m-1", "m-2"]


@CHAPTER.case()
async def a_parked_message_is_not_taken(backend: Backend) -> None:
    """By nobody, until it is unparked; a parked one that is sent all the same is forgotten."""
    here = await process(backend)
    await _publish(here, "k-1", [outgoing("m", None), outgoing("n", None)])
    rows = {row.outgoing.value: row.seq for row in await here.store.outbox.take(here.worker, 10)}
    await here.store.outbox.park([(rows[b"m"], "refused")])
    assert await _taken(here) == ["n"]
    assert await here.store.operator.unpark([]) == 0
    await here.store.outbox.sent(list(rows.values()))
    assert await here.store.operator.outgoing() == []


@CHAPTER.case("fifo_outbox")
async def a_delayed_message_holds_back_its_key_only(backend: Backend) -> None:
    """What is not yet due is left out with every later one of its key; then they leave in order."""
    here = await process(backend)
    await _publish(
        here,
        "k-1",
        [outgoing("a-1", "a"), outgoing("a-2", "a", delay=LATER), outgoing("a-3", "a"), outgoing("b-1", "b")],
    )
    await _publish(here, "k-2", [outgoing("free-late", None, delay=LATER), outgoing("free", None)])
    assert sorted(await _taken(here)) == ["a-1", "b-1", "free"]
    await backend.hasten()
    assert [name for name in await _taken(here) if name.startswith("a")] == ["a-1", "a-2", "a-3"]
    assert "free-late" in await _taken(here)


@CHAPTER.case()
async def a_shard_has_one_owner(backend: Backend) -> None:
    """Two workers never hold one message both, nor two messages of one key; together they hold all."""
    one, two = await process(backend), await process(backend)
    await _publish(
        one, "k-1", [outgoing(f"{key}-{number}", f"acc-{key}") for number in range(3) for key in range(20)]
    )
    for _ in range(2):
        left, right = set(await _taken(one)), set(await _taken(two))
        assert not left & right
        assert len(left | right) == 60
        assert not {name.split("-")[0] for name in left} & {name.split("-")[0] for name in right}


@CHAPTER.case()
async def shards_are_shared_out(backend: Backend) -> None:
    """Whoever comes later gets its share at the others' next takes; nothing is held by two, nothing by nobody."""
    workers = [await process(backend) for _ in range(3)]
    await _publish(workers[0], "k-1", [outgoing(f"m-{number}", f"acc-{number}") for number in range(90)])
    assert len(await _taken(workers[0])) == 90, "alone it has all"
    await _taken(workers[1])
    kept = set(await _taken(workers[0]))
    assert not kept & set(await _taken(workers[1])), "what is given up is not read by who gives it up"
    for _ in range(3):
        for each in workers:
            await _taken(each)
    held = [set(await _taken(each)) for each in workers]
    assert sum(map(len, held)) == len(set().union(*held)) == 90
    if backend.capabilities.dialect != "sqlite":  # one file, one machine: one shard
        assert min(map(len, held)) > 5, [len(each) for each in held]
    await workers[0].store.workers.close(workers[0].worker)
    for _ in range(2):
        for each in workers[1:]:
            await _taken(each)
    held = [set(await _taken(each)) for each in workers[1:]]
    assert sum(map(len, held)) == len(set().union(*held)) == 90, "what the closed one held is shared out"


@CHAPTER.case()
async def the_shards_of_a_closed_worker_are_taken_over(backend: Backend) -> None:
    """At the next take of another; what was taken and not marked comes again there."""
    one, two = await process(backend), await process(backend)
    await _publish(one, "k-1", [outgoing(f"m-{number}", f"acc-{number}") for number in range(20)])
    await _taken(one)
    await one.store.workers.close(one.worker)
    assert len(await _taken(two)) == 20
    await _publish(two, "k-2", [outgoing(f"n-{number}", f"acc-{number}") for number in range(20)])
    assert len(await _taken(two)) == 40


@CHAPTER.case()
async def the_shards_of_a_lapsed_worker_are_taken_over(backend: Backend) -> None:
    """After the lapse and not before."""
    one, two = await process(backend), await process(backend)
    await _publish(one, "k-1", [outgoing(f"m-{number}", f"acc-{number}") for number in range(20)])
    held = set(await _taken(one))
    await backend.kill(one.store, one.worker)
    assert not held & set(await _taken(two))
    await two.store.workers.lapse()
    assert len(await _taken(two)) == 20


@CHAPTER.case()
async def a_closed_worker_takes_no_messages(backend: Backend) -> None:
    """It owns nothing, and cannot become an owner again."""
    one, two = await process(backend), await process(backend)
    await _publish(one, "k-1", [outgoing(f"m-{number}", f"acc-{number}") for number in range(20)])
    await _taken(one)
    await one.store.workers.close(one.worker)
    for _ in range(2):
        with contextlib.suppress(StoreUnavailable):
            assert await _taken(one) == []
        assert len(await _taken(two)) == 20


@CHAPTER.case()
async def apps_do_not_send_for_each_other(backend: Backend) -> None:
    """A worker takes its own app's messages."""
    here, other = await process(backend), await process(backend, app="other")
    await _publish(here, "k-1", [outgoing("ours")])
    theirs = claim(app="other")
    await other.ended(theirs, (await other.win(theirs)).token, Kind.COMPLETE, outgoing=[outgoing("theirs")])
    assert await _taken(here) == ["ours"]
    assert await _taken(other) == ["theirs"]


@CHAPTER.case("fifo_outbox")
async def five_hundred_messages_leave(backend: Backend) -> None:
    """In one commit, one take, one mark."""
    here = await process(backend)
    await _publish(here, "k-1", [outgoing(f"m-{number:03}", f"acc-{number % 7}") for number in range(500)])
    rows = await here.store.outbox.take(here.worker, 500)
    assert len(rows) == 500
    for lane in range(7):
        names = [row.outgoing.value for row in rows if row.outgoing.ordering_key == f"acc-{lane}"]
        assert names == sorted(names)
    await here.store.outbox.sent([row.seq for row in rows])
    assert await here.store.operator.outgoing() == []
