"""Every pair of a state and an event, tried: what the table lacks leaves the entry unchanged and is answered so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from consumer.entry import Claim, Kind, Landed, Settled, State, Won
from consumer.rules.states import TRANSITIONS, Event
from consumer.testing.contract.backend import Backend
from consumer.testing.contract.case import Chapter
from consumer.testing.contract.samples import HANDLER, LATER, Process, end, landing, process, resolution

__all__ = ["CHAPTER"]

CHAPTER = Chapter("states")

Happen = Callable[[Process, Claim, int], Awaitable[bool]]
"""Makes the event happen to the claim's entry, whose token is given; returns whether the store says that it did."""

_SAME_AGAIN = {
    (State.DONE, Event.COMPLETE),
    (State.WAITING, Event.RETRY),
    (State.IN_DOUBT, Event.DOUBT),
    (State.DEAD, Event.BURY),
}
"""A settle repeated after a lost reply: answered `OK`, and nothing changes."""


async def _try(
    here: Process, event: Event, happen: Happen, state: State, *, to: State | None = None, name: str = ""
) -> None:
    pair = f"{state.word}, {event.value}"
    wish = await here.bring(f"{state.word}-{event.value}{name}", state)
    before = await here.seen(wish)
    said = await happen(here, wish, 0 if before is None else before.token)
    now = await here.seen(wish)
    targets = TRANSITIONS.get((state, event), ())
    if targets:
        aim = targets[0] if to is None else to
        assert said, f"({pair}): is in the table, but was refused"
        assert (State.ABSENT if now is None else now.state) is aim, f"({pair})"
    else:
        assert said == ((state, event) in _SAME_AGAIN), f"({pair}): is not in the table"
        assert now == before, f"({pair}): changed the entry"


def _each_state(event: Event, happen: Happen, *needs: str) -> None:
    async def every_state(backend: Backend) -> None:
        here = await process(backend)
        for state in State:
            await _try(here, event, happen, state)

    CHAPTER.add(f"{event.value}_on_every_state", every_state, *needs)


def _settles(kind: Kind) -> Happen:
    async def happen(here: Process, wish: Claim, token: int) -> bool:
        settle = end(wish, token, kind, reason="again", result=b"receipt")
        return await here.settle(settle) is Settled.OK

    return happen


async def _lands(here: Process, wish: Claim, _token: int) -> bool:
    return await here.store.arrivals.land([landing(wish.key)]) == [Landed.NEW]


async def _rejects(here: Process, wish: Claim, _token: int) -> bool:
    born_dead = landing(wish.key, state=State.DEAD, reason="decode", keyed=False)
    return await here.store.arrivals.land([born_dead]) == [Landed.NEW]


async def _claims(here: Process, wish: Claim, _token: int) -> bool:
    return isinstance(await here.ask(wish), Won)


async def _redrives(here: Process, wish: Claim, token: int) -> bool:
    return await here.store.operator.redrive(wish.identity, token, "mended")


async def _commits(here: Process, wish: Claim, token: int) -> bool:
    assert here.store.groups is not None
    group = await here.store.groups.open()
    try:
        # a running entry is taken by its token, every other one is claimed: a running one is held
        held = not isinstance((await group.claim([wish]))[0], Won)
        said = not held or await group.take(wish.identity, token)
        await group.seal()
        await group.commit()
    except BaseException:
        await group.rollback()
        raise
    return said


_each_state(Event.LAND, _lands)
_each_state(Event.REJECT, _rejects)
_each_state(Event.CLAIM, _claims)
_each_state(Event.COMPLETE, _settles(Kind.COMPLETE))
_each_state(Event.RETRY, _settles(Kind.RETRY))
_each_state(Event.DOUBT, _settles(Kind.DOUBT))
_each_state(Event.BURY, _settles(Kind.BURY))
_each_state(Event.REDRIVE, _redrives)
_each_state(Event.COMMIT, _commits, "transactions")


@CHAPTER.case()
async def release_on_every_state(backend: Backend) -> None:
    """A running entry goes back to the state before its claim; in every other state nothing is released."""
    here = await process(backend)
    for state in State:
        if state is not State.RUNNING:
            await _try(here, Event.RELEASE, _settles(Kind.RELEASE), state)
    for before in (State.ABSENT, State.RECEIVED, State.WAITING):
        wish = await here.bring(f"release-to-{before.word}", before)
        token = (await here.win(wish)).token
        await here.ended(wish, token, Kind.RELEASE)
        now = await here.seen(wish)
        assert (State.ABSENT if now is None else now.state) is before


@CHAPTER.case()
async def resolve_on_every_state(backend: Backend) -> None:
    """Only a doubt is resolved, to each of the three states that the table permits."""
    here = await process(backend)
    for to in (State.DONE, State.WAITING, State.DEAD):

        async def resolves(here: Process, wish: Claim, token: int, to: State = to) -> bool:
            return await here.store.doubts.resolve(resolution(wish, token, to))

        for state in State:
            await _try(here, Event.RESOLVE, resolves, state, to=to, name=f"-{to.word}")


@CHAPTER.case()
async def lapse_on_every_state(backend: Backend) -> None:
    """Only running entries of a closed worker lapse."""
    gone, here = await process(backend), await process(backend)
    wishes = {state: await gone.bring(f"{state.word}-lapse", state) for state in State}
    before = {state: await here.seen(wish) for state, wish in wishes.items()}
    await backend.kill(gone.store, gone.worker)
    assert gone.worker in await here.store.workers.lapse()
    adopted = await here.store.workers.adopt(100)
    assert [(one.identity, one.state) for one in adopted] == [
        (wishes[State.RUNNING].identity, State.IN_DOUBT)
    ]
    for state, wish in wishes.items():
        now = await here.seen(wish)
        if state is State.RUNNING:
            assert now is not None
            assert now.state is State.IN_DOUBT
        else:
            assert now == before[state], state


@CHAPTER.case()
async def purge_on_every_state(backend: Backend) -> None:
    """Only done entries are forgotten, however old the others are."""
    here = await process(backend)
    wishes = {state: await here.bring(f"{state.word}-purge", state) for state in State}
    await backend.age(LATER)
    before = {state: await here.seen(wish) for state, wish in wishes.items()}
    forgotten = await here.store.operator.purge(app="shop", handler=HANDLER, older_than=LATER / 2, limit=100)
    assert forgotten == 1
    for state, wish in wishes.items():
        assert await here.seen(wish) == (None if state is State.DONE else before[state]), state
