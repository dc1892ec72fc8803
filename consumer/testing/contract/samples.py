"""Claims, landings and settles as the cases make them, and a process to make them in."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Protocol, TypeVar

import msgspec

from consumer.entry import (
    Answer,
    Claim,
    Entry,
    Held,
    Kind,
    Landing,
    OnLapse,
    Settle,
    Settled,
    State,
    Taken,
    Won,
)
from consumer.message import Message, Outgoing
from consumer.ports.operator import Resolution
from consumer.ports.store import Store
from consumer.rules.keys import fingerprint_of_bytes, identity, outgoing_id
from consumer.testing.contract.backend import Backend

__all__ = [
    "BODY",
    "HANDLER",
    "LATER",
    "TTL",
    "Process",
    "body",
    "claim",
    "end",
    "landing",
    "only",
    "outgoing",
    "present",
    "process",
    "resolution",
    "won",
]

HANDLER = "pay"
LATER = 3600.0
"""Seconds after which no case is still running."""
TTL = 600.0
"""A worker's time-to-live that no slow machine overruns by itself."""


T = TypeVar("T")


class Named(Protocol):
    """Whatever names an entry: a claim, a landing, what was taken."""

    @property
    def identity(self) -> bytes: ...
    @property
    def key(self) -> bytes: ...


def body(value: bytes) -> bytes:
    """Return a message's stored form."""
    return Message("payments.requested", value, (("tenant", b"public"), ("raw", b"\x00\xff"))).encode()


BODY = body(b'{"amount": 1}')


def claim(
    key: str | bytes = "k-1",
    *,
    app: str = "shop",
    tenant: str = "public",
    handler: str = HANDLER,
    payload: bytes = b"a",
    on_lapse: OnLapse = OnLapse.IN_DOUBT,
    budget: int = 5,
    stored: bool = False,
    message: bytes | None = None,
) -> Claim:
    """Return a new claim (with a nonce of its own) of a key."""
    raw = key.encode() if isinstance(key, str) else key
    return Claim(
        identity=identity(app, tenant, handler, raw),
        tenant=tenant,
        handler=handler,
        key=raw,
        fingerprint=fingerprint_of_bytes(payload),
        nonce=secrets.randbelow(2**63 - 1) + 1,
        on_lapse=on_lapse,
        budget=budget,
        stored=stored,
        message=message,
    )


def landing(
    key: str | bytes = "k-1",
    *,
    app: str = "shop",
    tenant: str = "public",
    handler: str = HANDLER,
    payload: bytes = b"a",
    on_lapse: OnLapse = OnLapse.IN_DOUBT,
    budget: int = 5,
    message: bytes = BODY,
    state: State = State.RECEIVED,
    reason: str | None = None,
    keyed: bool = True,
    delay: float = 0.0,
    lane: bytes | None = None,
) -> Landing:
    """Return a landing of a key."""
    raw = key.encode() if isinstance(key, str) else key
    return Landing(
        identity=identity(app, tenant, handler, raw),
        tenant=tenant,
        handler=handler,
        key=raw,
        fingerprint=fingerprint_of_bytes(payload),
        on_lapse=on_lapse,
        budget=budget,
        message=message,
        conflict_identity=identity(app, tenant, handler, b"conflict:" + payload + b":" + raw),
        state=state,
        reason=reason,
        keyed=keyed,
        delay=delay,
        lane=lane,
    )


def outgoing(
    name: str, ordering_key: str | None = "acc-1", *, topic: str = "out", delay: float = 0.0
) -> Outgoing:
    """Return an outgoing message whose value is its name."""
    return Outgoing(
        id=outgoing_id(name.encode().ljust(16), 0),
        topic=topic,
        value=name.encode(),
        headers=(("trace", b"\x00\xfe"), ("trace", b"again")),
        ordering_key=ordering_key,
        delay=delay,
    )


def end(
    of: Named,
    token: int,
    kind: Kind,
    *,
    reason: str | None = None,
    delay: float | None = None,
    result: bytes | None = None,
    message: bytes | None = None,
    outgoing: Sequence[Outgoing] = (),
    landings: Sequence[Landing] = (),
) -> Settle:
    """Return the settle of this kind for an attempt; a retry without a delay is due at once."""
    if kind is Kind.RETRY and delay is None:
        delay = 0.0
    return Settle(of.identity, token, kind, reason, delay, result, message, tuple(outgoing), tuple(landings))


def resolution(of: Named, token: int, to: State, *, reason: str = "looked it up") -> Resolution:
    """Return a resolution without consequences."""
    return Resolution(of.identity, token, to, reason)


def won(answer: Answer) -> Won:
    """Return the answer, which must be `Won`."""
    assert isinstance(answer, Won), answer
    return answer


def only(things: Sequence[T]) -> T:
    """Return the one of them that there must be."""
    assert len(things) == 1, things
    return things[0]


def present(entry: Entry | None) -> Entry:
    """Return the entry, which must be there."""
    assert entry is not None, "no entry"
    return entry


class Process(msgspec.Struct, frozen=True):
    """A handle and a worker of its own, as each process has them."""

    store: Store
    worker: int

    async def ask(self, claim: Claim) -> Answer:
        """Claim one key."""
        settled, answers = await self.store.inbox.turn(self.worker, [], [claim])
        assert settled == []
        assert len(answers) == 1
        return answers[0]

    async def win(self, claim: Claim) -> Won:
        """Claim one key, which must be won."""
        return won(await self.ask(claim))

    async def held(self, claim: Claim) -> Held:
        """Claim one key, which must be held."""
        answer = await self.ask(claim)
        assert isinstance(answer, Held), answer
        return answer

    async def held_of(self, claim: Claim, answer: Answer | None) -> Held:
        """Return the answer `Held`, without its time once that was compared with the entry's (0: a store need not say)."""
        assert isinstance(answer, Held), answer
        made = (await self.entry(claim)).created_at
        assert answer.created_at == 0 or abs(answer.created_at - made) < 0.001, (answer, made)
        return msgspec.structs.replace(answer, created_at=0.0)

    async def settle(self, settle: Settle) -> Settled:
        """Settle one attempt."""
        settled, answers = await self.store.inbox.turn(self.worker, [settle], [])
        assert answers == []
        assert len(settled) == 1
        return settled[0]

    async def ended(self, of: Named, token: int, kind: Kind, **fields: object) -> None:
        """Settle one attempt, which must be accepted; fields as `end` takes them."""
        assert await self.settle(end(of, token, kind, **fields)) is Settled.OK  # type: ignore[arg-type]

    async def due(self, limit: int = 100, handlers: Sequence[str] = (HANDLER,)) -> list[Taken]:
        """Take what is due."""
        return await self.store.arrivals.due(self.worker, handlers, limit)

    async def doubts(self, limit: int = 100, *, lease: float = LATER, tries: int = 3) -> list[Taken]:
        """Take doubts to ask about."""
        return await self.store.doubts.ask([HANDLER], limit, lease, tries)

    async def seen(self, of: Named) -> Entry | None:
        """Return this very entry, `None` where there is none."""
        found = [entry for entry in await self.store.operator.find(of.key) if entry.identity == of.identity]
        assert len(found) <= 1, found
        return found[0] if found else None

    async def entry(self, of: Named) -> Entry:
        """Return this very entry, which must be there."""
        return present(await self.seen(of))

    async def sent_out(self) -> list[str]:
        """Return the names of the messages in the outbox, oldest first."""
        return [row.outgoing.value.decode() for row in await self.store.operator.outgoing()]

    async def bring(self, key: str, state: State, *, message: bytes | None = BODY) -> Claim:
        """Bring a key into a state, where it holds `message`; return a claim of it that may start it."""
        wish = claim(key, stored=True)
        if state is State.ABSENT:
            return wish
        if state is State.RECEIVED:
            await self.store.arrivals.land([landing(key, message=message or BODY)])
            return wish
        first = msgspec.structs.replace(wish, message=message)
        token = (await self.win(first)).token
        match state:
            case State.WAITING:
                await self.ended(wish, token, Kind.RETRY, reason="busy", delay=0.0)
            case State.DONE:
                await self.ended(wish, token, Kind.COMPLETE, result=b"receipt")
            case State.IN_DOUBT:
                await self.ended(wish, token, Kind.DOUBT, reason="no reply", delay=0.0)
            case State.DEAD:
                await self.ended(wish, token, Kind.BURY, reason="refused")
            case _:
                assert state is State.RUNNING
        return msgspec.structs.replace(wish, nonce=secrets.randbelow(2**63 - 1) + 1)


async def process(backend: Backend, app: str = "shop") -> Process:
    """Start another process on the data: a handle and an open worker."""
    store = await backend.open(app)
    return Process(store, await store.workers.open(TTL, "contract suite"))
