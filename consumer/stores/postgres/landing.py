"""Landing, inside a transaction of somebody's: at a way in, with a completion, in a group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from consumer.entry import Landed, Landing, State
from consumer.stores.postgres.connect import Connection
from consumer.stores.postgres.lanes import Lane, lock, places, promote
from consumer.stores.postgres.rows import clean, in_seconds, uuids

__all__ = ["land", "land_new", "lanes_of"]

_KNOWN = """
select id, key, fingerprint, state, message is null as bare from consumer_inbox where id = any($1::uuid[])
"""
_BIRTH = """
insert into consumer_inbox (id, token, created_at, due_at, state, on_lapse, attempts, budget, keyed, fingerprint,
                            app, tenant, handler, key, reason, message)
select b.id, nextval('consumer_token'), now() - b.age * interval '1 microsecond',
       case when b.state = 6 then null else now() - b.age * interval '1 microsecond' + make_interval(secs => b.delay) end,
       b.state, b.on_lapse, 0, b.budget, b.keyed, b.fingerprint, $1, b.tenant, b.handler, b.key, b.reason, b.message
from unnest($2::uuid[], $3::float8[], $4::smallint[], $5::smallint[], $6::smallint[], $7::boolean[], $8::bytea[],
            $9::text[], $10::text[], $11::bytea[], $12::text[], $13::bytea[], $14::int[])
    as b(id, delay, state, on_lapse, budget, keyed, fingerprint, tenant, handler, key, reason, message, age)
where not exists (select from consumer_inbox e where e.id = b.id)
order by b.id
on conflict (id) do nothing
returning id
"""
# Nobody is due yet: `promote` gives the heads of the lanes their time.
_JOIN = """
insert into consumer_inbox (id, token, created_at, not_before, state, on_lapse, attempts, budget, keyed, fingerprint,
                            app, tenant, handler, key, reason, message, lane, place)
select b.id, nextval('consumer_token'), now() - b.age * interval '1 microsecond',
       case when b.delay > 0 then now() + make_interval(secs => b.delay) end,
       b.state, b.on_lapse, 0, b.budget, b.keyed, b.fingerprint, $1, b.tenant, b.handler, b.key, b.reason, b.message,
       b.lane, b.place
from unnest($2::uuid[], $3::float8[], $4::smallint[], $5::smallint[], $6::smallint[], $7::boolean[], $8::bytea[],
            $9::text[], $10::text[], $11::bytea[], $12::text[], $13::bytea[], $14::int[], $15::bytea[], $16::bigint[])
    as b(id, delay, state, on_lapse, budget, keyed, fingerprint, tenant, handler, key, reason, message, age, lane, place)
order by b.id
on conflict (id) do nothing
returning id
"""
_ATTACH = """
update consumer_inbox e set message = a.message from unnest($1::uuid[], $2::bytea[]) as a(id, message)
where e.id = a.id and e.message is null and e.state in (3, 5, 6)
"""
_BODILY = frozenset({State.WAITING, State.IN_DOUBT, State.DEAD})


def lanes_of(landings: Iterable[Landing]) -> set[Lane]:
    """Return the lanes that these join; whoever also lets entries out of lanes locks all of them at once, before."""
    return {_lane(landing, landing.lane) for landing in landings if landing.lane is not None}


async def land_new(connection: Connection, app: str, landings: Sequence[Landing]) -> set[bytes]:
    """Write, in one statement, those that are not there yet and join no lane; return their identities.

    What is there is met by nobody's insert, which would wait for whoever is writing to it; a look inside the same statement
    sees to that, as `land` does by a statement of its own.
    """
    free = [landing for landing in _firsts(landings).values() if not _ordered(landing)]
    return await _insert(connection, _BIRTH, app, free) if free else set()


async def land(
    connection: Connection, app: str, landings: Sequence[Landing], born: Iterable[bytes] = ()
) -> list[Landed]:
    """Write entries as `ports.arrivals.Arrivals.land` says; the caller commits.

    Args:
        connection: in a transaction.
        app: whose they are.
        landings: what to write.
        born: those that `land_new` has written already.
    """
    first = _firsts(landings)
    lanes = lanes_of(landings)
    await lock(connection, app, lanes)
    born = set(born)
    left = [identity for identity in first if identity not in born]
    # Read first: an insert would wait for whoever is writing to an entry that is there already.
    known = await _known(connection, left) if left else {}
    fresh = [first[identity] for identity in left if identity not in known]
    born |= await _birth(connection, app, fresh) if fresh else set()
    await promote(connection, app, lanes)
    lost = [landing.identity for landing in fresh if landing.identity not in born]
    if lost:
        known |= await _known(connection, lost)
    answers: list[Landed] = []
    conflicts: dict[bytes, Landing] = {}
    bytes_for: dict[bytes, bytes] = {}
    for landing in landings:
        if landing.identity in born:
            born.discard(landing.identity)  # a second landing of it in this call counts after the first
            answers.append(Landed.NEW)
            continue
        there = first[landing.identity]
        key, fingerprint, lacking = known.get(landing.identity, (there.key, there.fingerprint, False))
        # The identity of what cannot be keyed is a digest over the message: its key is a name for people.
        if not landing.keyed or (key, fingerprint) == (landing.key, landing.fingerprint):
            if lacking:
                bytes_for.setdefault(landing.identity, landing.message)
            answers.append(Landed.DUPLICATE)
        else:
            conflicts.setdefault(landing.conflict_identity, _born_dead(landing, same_key=key == landing.key))
            answers.append(Landed.CONFLICT)
    if bytes_for:
        await connection.execute(_ATTACH, uuids(bytes_for), list(bytes_for.values()))
    if conflicts:
        await _birth(connection, app, list(conflicts.values()))
    return answers


async def _known(
    connection: Connection, identities: Iterable[bytes]
) -> dict[bytes, tuple[bytes, bytes, bool]]:
    rows = await connection.fetch(_KNOWN, uuids(identities))
    return {
        row["id"].bytes: (row["key"], row["fingerprint"], row["bare"] and row["state"] in _BODILY)
        for row in rows
    }


async def _birth(connection: Connection, app: str, landings: Sequence[Landing]) -> set[bytes]:
    free = [landing for landing in landings if not _ordered(landing)]
    if len(free) == len(landings):
        return await _insert(connection, _BIRTH, app, free)
    born = await _insert(connection, _BIRTH, app, free) if free else set()
    ordered = [landing for landing in landings if _ordered(landing)]
    lanes = [landing.lane for landing in ordered]
    return born | await _insert(
        connection, _JOIN, app, ordered, lanes, await places(connection, len(ordered))
    )


def _firsts(landings: Sequence[Landing]) -> dict[bytes, Landing]:
    first: dict[bytes, Landing] = {}
    for landing in landings:
        first.setdefault(landing.identity, landing)
    return first


def _ordered(landing: Landing) -> bool:
    return landing.lane is not None and landing.state is not State.DEAD


def _lane(landing: Landing, lane: bytes) -> Lane:
    return clean(landing.handler) or "", clean(landing.tenant) or "", lane


async def _insert(
    connection: Connection, sql: str, app: str, landings: Sequence[Landing], *more: Sequence[object]
) -> set[bytes]:
    rows = await connection.fetch(
        sql,
        app,
        uuids(one.identity for one in landings),
        [in_seconds(one.delay) for one in landings],
        [int(one.state) for one in landings],
        [int(one.on_lapse) for one in landings],
        [one.budget for one in landings],
        [one.keyed for one in landings],
        [one.fingerprint for one in landings],
        [clean(one.tenant) for one in landings],
        [clean(one.handler) for one in landings],
        [one.key for one in landings],
        [clean(one.reason) for one in landings],
        [one.message for one in landings],
        # Those of one call are told apart by a microsecond each, so that they are due in this order.
        list(range(len(landings), 0, -1)),
        *more,
    )
    return {row["id"].bytes for row in rows}


def _born_dead(landing: Landing, *, same_key: bool) -> Landing:
    what = "payload" if same_key else "key"
    return Landing(
        landing.conflict_identity,
        landing.tenant,
        landing.handler,
        landing.key,
        landing.fingerprint,
        landing.on_lapse,
        landing.budget,
        landing.message,
        landing.conflict_identity,
        state=State.DEAD,
        reason=f"conflict: another {what} has this identity",
        keyed=False,
    )
