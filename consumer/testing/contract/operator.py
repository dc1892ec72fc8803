"""`Operator`: what people ask."""

from __future__ import annotations

import asyncio
import uuid

from consumer.entry import Kind, State
from consumer.testing.contract.backend import Backend
from consumer.testing.contract.case import Chapter
from consumer.testing.contract.samples import (
    BODY,
    HANDLER,
    LATER,
    claim,
    landing,
    only,
    outgoing,
    process,
)

__all__ = ["CHAPTER"]

CHAPTER = Chapter("operator")


@CHAPTER.case()
async def find_by_key(backend: Backend) -> None:
    """All entries of a raw key, narrowed by app, handler and tenant; nothing for an unknown key."""
    here, other = await process(backend), await process(backend, app="other")
    await here.store.arrivals.land(
        [landing(), landing(tenant="acme"), landing(handler="ship"), landing("k-10"), landing("k")]
    )
    await other.store.arrivals.land([landing(app="other")])
    find = here.store.operator.find

    async def where(**narrow: str) -> list[tuple[str, str, str]]:
        return sorted((row.app, row.handler, row.tenant) for row in await find(b"k-1", **narrow))

    shop, acme, ship = ("shop", HANDLER, "public"), ("shop", HANDLER, "acme"), ("shop", "ship", "public")
    assert await where() == sorted([shop, acme, ship, ("other", HANDLER, "public")])
    assert await where(app="shop") == sorted([shop, acme, ship])
    assert await where(handler="ship") == [ship]
    assert await where(tenant="acme") == [acme]
    assert await where(app="shop", handler=HANDLER, tenant="public") == [shop]
    assert await find(b"unknown") == []


@CHAPTER.case()
async def find_by_identity(backend: Backend) -> None:
    """As 32 hexadecimal digits or in a uuid's form."""
    here = await process(backend)
    await here.store.arrivals.land([landing(), landing("k-2")])
    identity = landing().identity
    for spelled in (identity.hex(), str(uuid.UUID(bytes=identity))):
        found = only(await here.store.operator.find(spelled.encode()))
        assert found == await here.entry(landing())
    assert await here.store.operator.find(uuid.uuid4().hex.encode()) == []
    assert await here.store.operator.find(identity.hex().encode(), app="other") == []
    as_key = landing(identity.hex())
    await here.store.arrivals.land([as_key])
    found_too = await here.store.operator.find(identity.hex().encode())
    assert {row.identity for row in found_too} == {identity, as_key.identity}


@CHAPTER.case()
async def find_tells_the_whole_story(backend: Backend) -> None:
    """Every line in the order of its happening, with token, attempt and reason."""
    here = await process(backend)
    wish = claim(message=BODY)
    first = await here.win(wish)
    await here.ended(wish, first.token, Kind.RETRY, reason="busy", delay=0.0)
    second = only(await here.due())
    await here.ended(wish, second.token, Kind.BURY, reason="refused")
    assert await here.store.operator.redrive(wish.identity, second.token, "mended")
    third = only(await here.due())
    await here.ended(wish, third.token, Kind.COMPLETE, result=b"receipt")
    entry = only(await here.store.operator.find(b"k-1"))
    lines = [(line.event, line.token, line.attempt, line.reason) for line in entry.story]
    assert lines[:2] == [("retry", first.token, 1, "busy"), ("bury", second.token, 2, "refused")]
    assert [(event, reason) for event, _, _, reason in lines[2:]] == [("redrive", "mended")]
    assert [line.at for line in entry.story] == sorted(line.at for line in entry.story)
    assert entry.result == b"receipt"
    assert third.attempt == 1


@CHAPTER.case()
async def entries_are_listed_oldest_first(backend: Backend) -> None:
    """All of them without a limit, in order of creation, without results and stories."""
    here = await process(backend)
    for key in ("first", "second", "third"):
        await here.bring(key, State.DONE)
        await backend.age(10.0)
    rows = await here.store.operator.entries()
    assert [row.key for row in rows] == [b"first", b"second", b"third"]
    assert [row.key for row in await here.store.operator.entries(limit=2)] == [b"first", b"second"]
    assert {(row.result, row.story) for row in rows} == {(None, ())}
    assert rows[0].created_at < rows[1].created_at < rows[2].created_at


@CHAPTER.case()
async def entries_are_filtered(backend: Backend) -> None:
    """By app, states, handler and tenant, each alone and together."""
    here, other = await process(backend), await process(backend, app="other")
    for state in State:
        await here.bring(state.word, state)
    await here.store.arrivals.land([landing("t", tenant="acme"), landing("h", handler="ship")])
    await other.store.arrivals.land([landing("o", app="other")])
    entries = here.store.operator.entries
    assert len(await entries()) == 9
    assert len(await entries(app="shop")) == 8
    assert [row.key for row in await entries(app="other")] == [b"o"]
    assert [row.key for row in await entries(states=[State.DEAD])] == [b"dead"]
    assert {row.key for row in await entries(states=[State.DEAD, State.IN_DOUBT])} == {b"dead", b"in_doubt"}
    assert [row.key for row in await entries(handler="ship")] == [b"h"]
    assert [row.key for row in await entries(tenant="acme")] == [b"t"]
    assert await entries(tenant="acme", handler="ship") == []
    assert [row.key for row in await entries(app="shop", states=[State.RECEIVED], handler="ship")] == [b"h"]


@CHAPTER.case()
async def all_entries_means_all(backend: Backend) -> None:
    """No silent limit."""
    here = await process(backend)
    for batch in range(3):
        await here.store.arrivals.land([landing(f"k-{batch}-{number}") for number in range(500)])
    assert len(await here.store.operator.entries()) == 1500
    assert len(await here.store.operator.entries(limit=1)) == 1


@CHAPTER.case()
async def redrive_starts_the_count_anew(backend: Backend) -> None:
    """Dead to waiting, due now, attempts from 0, a new token, a line in the story."""
    here = await process(backend)
    wish = await here.bring("k-1", State.DEAD)
    before = await here.entry(wish)
    assert await here.store.operator.redrive(wish.identity, before.token, "mended")
    entry = await here.entry(wish)
    assert (entry.state, entry.attempts, entry.message) == (State.WAITING, 0, BODY)
    assert entry.token > before.token
    assert [(line.event, line.reason) for line in entry.story[-1:]] == [("redrive", "mended")]
    taken = only(await here.due())
    assert (taken.attempt, taken.message) == (1, BODY)


@CHAPTER.case()
async def redrive_compares_the_token(backend: Backend) -> None:
    """`False` and no change with another one; of two at once one counts."""
    one, two = await process(backend), await process(backend)
    wish = await one.bring("k-1", State.DEAD)
    before = await one.entry(wish)
    for token in (before.token - 1, before.token + 1, 0):
        assert not await one.store.operator.redrive(wish.identity, token, "wrong")
    assert await one.entry(wish) == before
    said = await asyncio.gather(
        one.store.operator.redrive(wish.identity, before.token, "one"),
        two.store.operator.redrive(wish.identity, before.token, "two"),
    )
    assert sorted(said) == [False, True]
    assert len((await one.entry(wish)).story) == len(before.story) + 1


@CHAPTER.case()
async def a_redriven_entry_without_bytes_waits_for_them(backend: Backend) -> None:
    """`due` does not yield it; its redelivery wins it."""
    here = await process(backend)
    wish = await here.bring("k-1", State.DEAD, message=None)
    assert await here.store.operator.redrive(wish.identity, (await here.entry(wish)).token, "mended")
    assert await here.due() == []
    assert (await here.win(claim())).attempt == 1


@CHAPTER.case()
async def purge_forgets_old_done_entries(backend: Backend) -> None:
    """Of that app and handler, older than that, up to the limit; the key is then new."""
    here, other = await process(backend), await process(backend, app="other")
    purge = here.store.operator.purge
    for wish in (claim("a"), claim("b"), claim("c"), claim("s", handler="ship")):
        await here.ended(wish, (await here.win(wish)).token, Kind.COMPLETE)
    theirs = claim("o", app="other")
    await other.ended(theirs, (await other.win(theirs)).token, Kind.COMPLETE)
    await backend.age(100.0)
    await here.ended(claim("young"), (await here.win(claim("young"))).token, Kind.COMPLETE)
    assert await purge(app="shop", handler=HANDLER, older_than=1000.0, limit=10) == 0
    assert await purge(app="shop", handler=HANDLER, older_than=50.0, limit=2) == 2
    assert await purge(app="shop", handler=HANDLER, older_than=50.0, limit=2) == 1
    assert await purge(app="shop", handler=HANDLER, older_than=50.0, limit=2) == 0
    assert {row.key for row in await here.store.operator.entries()} == {b"s", b"o", b"young"}
    assert (await here.win(claim("a"))).attempt == 1
    assert (await here.entry(claim("a"))).story == ()


@CHAPTER.case()
async def a_forgotten_key_has_no_past(backend: Backend) -> None:
    """Neither the story nor the fingerprint of a purged entry is held against a new one."""
    here = await process(backend)
    wish = await here.bring("k-1", State.WAITING)
    taken = only(await here.due())
    await here.ended(taken, taken.token, Kind.COMPLETE)
    await backend.age(LATER)
    assert await here.store.operator.purge(app="shop", handler=HANDLER, older_than=1.0, limit=10) == 1
    assert await here.seen(wish) is None
    assert (await here.win(claim(payload=b"other"))).attempt == 1
    assert (await here.entry(wish)).story == ()


@CHAPTER.case()
async def stats_count_by_app_handler_and_state(backend: Backend) -> None:
    """With the creation time of the oldest; of all apps, or of one."""
    here, other = await process(backend), await process(backend, app="other")
    await here.bring("old", State.DONE)
    await backend.age(100.0)
    await here.bring("new", State.DONE)
    await here.bring("dead", State.DEAD)
    await here.store.arrivals.land([landing("h", handler="ship")])
    await other.store.arrivals.land([landing("o", app="other")])
    counts = {(row.app, row.handler, row.state): row for row in await here.store.operator.stats()}
    assert {group: row.count for group, row in counts.items()} == {
        ("shop", HANDLER, State.DONE): 2,
        ("shop", HANDLER, State.DEAD): 1,
        ("shop", "ship", State.RECEIVED): 1,
        ("other", HANDLER, State.RECEIVED): 1,
    }
    assert counts["shop", HANDLER, State.DONE].oldest == (await here.entry(claim("old"))).created_at
    assert [row.app for row in await here.store.operator.stats(app="other")] == ["other"]
    assert await here.store.operator.stats(app="unknown") == []


@CHAPTER.case()
async def declared_handlers_are_remembered(backend: Backend) -> None:
    """Each declaration answers those known before it, whichever handle made it."""
    here, there = await backend.open(), await backend.open()
    assert await here.operator.declare("shop", {"pay": "AtMostOnce", "ship": "Transactional"}) == {}
    assert await there.operator.declare("other", {"mail": "AtLeastOnce"}) == {}
    known = await there.operator.declare("shop", {"pay": "Transactional", "mail": "AtLeastOnce"})
    assert known == {"pay": "AtMostOnce", "ship": "Transactional"}
    known = await here.operator.declare("shop", {"pay": "Transactional"})
    assert (known["pay"], known["mail"]) == ("Transactional", "AtLeastOnce")


@CHAPTER.case()
async def apps_are_those_with_anything_in_the_store(backend: Backend) -> None:
    """Entries, workers or handlers."""
    store = await backend.open("landed")
    assert await store.operator.apps() == []
    await store.arrivals.land([landing(app="landed")])
    await (await backend.open("working")).workers.open(LATER, "host")
    await store.operator.declare("declared", {"pay": "AtMostOnce"})
    assert sorted(await store.operator.apps()) == ["declared", "landed", "working"]


@CHAPTER.case()
async def backlog_counts_the_outbox(backend: Backend) -> None:
    """What waits, delayed ones too, what is parked, and when the oldest that waits was made."""
    here = await process(backend)
    empty = await here.store.operator.backlog()
    assert (empty.unsent, empty.parked, empty.oldest) == (0, 0, None)
    messages = [
        outgoing(f"m-{number}", f"acc-{number}", delay=LATER if number == 1 else 0.0) for number in range(4)
    ]
    await here.ended(claim(), (await here.win(claim())).token, Kind.COMPLETE, outgoing=messages)
    await here.ended(
        claim("k-2"), (await here.win(claim("k-2"))).token, Kind.COMPLETE, outgoing=[outgoing("m-9", "acc-9")]
    )
    rows = await here.store.operator.outgoing()
    await here.store.outbox.park([(rows[0].seq, "too large")])
    counted = await here.store.operator.backlog()
    assert (counted.unsent, counted.parked) == (4, 1)
    assert counted.oldest == min(row.created_at for row in rows[1:])
    await here.store.outbox.sent([row.seq for row in rows[1:]])
    counted = await here.store.operator.backlog()
    assert (counted.unsent, counted.parked, counted.oldest) == (0, 1, None)


@CHAPTER.case()
async def the_outbox_is_listed_oldest_first(backend: Backend) -> None:
    """All, only the parked, or only the others, up to a limit; delayed ones too."""
    here = await process(backend)
    messages = [
        outgoing(f"m-{number}", f"acc-{number}", delay=LATER if number == 1 else 0.0) for number in range(4)
    ]
    await here.ended(claim(), (await here.win(claim())).token, Kind.COMPLETE, outgoing=messages)
    rows = await here.store.operator.outgoing()
    await here.store.outbox.park([(rows[2].seq, "too large")])

    async def names(*, parked: bool | None = None, limit: int | None = None) -> list[bytes]:
        return [row.outgoing.value for row in await here.store.operator.outgoing(parked=parked, limit=limit)]

    assert await names() == [b"m-0", b"m-1", b"m-2", b"m-3"]
    assert await names(limit=2) == [b"m-0", b"m-1"]
    assert await names(parked=True) == [b"m-2"]
    assert await names(parked=False) == [b"m-0", b"m-1", b"m-3"]
    assert [row.parked for row in await here.store.operator.outgoing(parked=True)] == ["too large"]
    assert await here.store.operator.outgoing(app="else") == []
    assert [(row.app, row.seq) for row in await here.store.operator.outgoing(app="shop")] == [
        ("shop", row.seq) for row in rows
    ]
    assert [row.app for row in await here.store.outbox.take(here.worker, 10)] == ["shop"] * 2
    assert await here.store.operator.unpark([rows[0].seq]) == 0
    assert await here.store.operator.unpark([rows[2].seq, rows[3].seq]) == 1
    assert await names(parked=True) == []
