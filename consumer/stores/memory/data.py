"""What the in-memory store holds, and the few changes that several of its verbs share."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from consumer.entry import Entry, Landed, Landing, OnLapse, State, StoryLine
from consumer.errors import StoreUnavailable
from consumer.message import Outgoing
from consumer.ports.outbox import Pending
from consumer.rules.states import Event, after

__all__ = [
    "FINISHED",
    "MemoryData",
    "OutgoingRow",
    "Row",
    "WorkerRow",
    "behind",
    "due_rows",
    "join",
    "keep_bytes",
    "land",
    "send",
    "start",
    "tell",
]

FINISHED = frozenset({State.ABSENT, State.DONE, State.DEAD})
"""What holds up nobody in its lane."""


class Row(msgspec.Struct, gc=False):
    """An entry; the fields are `Entry`'s and those that only the store needs.

    Attributes:
        before: the state before the claim, which a release goes back to.
        nonce: of the claim that started the present attempt.
        asks: how often reconcile was asked about the present doubt.
    """

    identity: bytes
    app: str
    tenant: str
    handler: str
    key: bytes
    fingerprint: bytes
    on_lapse: OnLapse
    budget: int
    created_at: float
    state: State = State.ABSENT
    before: State = State.ABSENT
    token: int = 0
    attempts: int = 0
    asks: int = 0
    due_at: float | None = None
    worker: int | None = None
    nonce: int | None = None
    reason: str | None = None
    result: bytes | None = None
    message: bytes | None = None
    keyed: bool = True
    lane: bytes | None = None
    story: tuple[StoryLine, ...] = ()

    def move(self, event: Event, to: State | None = None) -> None:
        """Change the state by the table; a running entry that stops running belongs to no worker."""
        self.state = after(self.state, event, to)
        if self.state is not State.RUNNING:
            self.worker = self.nonce = None

    def seen(self, head: Row | None, *, whole: bool) -> Entry:
        """Return the entry, which waits for `head`, as people see it, with result and story only when `whole`."""
        return Entry(
            identity=self.identity,
            app=self.app,
            tenant=self.tenant,
            handler=self.handler,
            key=self.key,
            state=self.state,
            attempts=self.attempts,
            token=self.token,
            created_at=self.created_at,
            due_at=None if head else self.due_at,
            worker=self.worker,
            reason=self.reason,
            result=self.result if whole else None,
            message=self.message,
            keyed=self.keyed,
            story=self.story if whole else (),
            lane=self.lane,
            behind=None if head is None else head.identity,
        )


class WorkerRow(msgspec.Struct, gc=False):
    """A process' sign of life. `clean`: it was closed by itself."""

    app: str
    ttl: float
    about: str
    beat_at: float
    beats: int = 0
    closed: bool = False
    clean: bool = False


class OutgoingRow(msgspec.Struct, gc=False):
    """A message in the outbox."""

    app: str
    due_at: float
    pending: Pending


class MemoryData:
    """The data of one in-memory store. Handles that share one play the processes that share a database.

    Args:
        clock: the store's clock, in seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.now = clock
        self.rows: dict[bytes, Row] = {}
        self.lanes: dict[tuple[str, str, str, bytes], list[Row]] = {}
        self.workers: dict[int, WorkerRow] = {}
        self.outbox: dict[int, OutgoingRow] = {}
        self.owners: dict[tuple[str, int], int] = {}
        self.relays: set[tuple[str, int]] = set()
        self.handlers: dict[str, dict[str, str]] = {}
        # One sequence each for the whole store, apart from the rows: a purge starts none of them anew.
        self.tokens = itertools.count(1)
        self.numbers = itertools.count(1)
        self.places = itertools.count(1)

    def closed(self, worker: int) -> bool:
        """Whether this worker is closed or was never opened."""
        row = self.workers.get(worker)
        return row is None or row.closed

    def refuse_closed(self, worker: int) -> None:
        """Refuse the claims of a closed worker, which never revives.

        Raises:
            StoreUnavailable: it is closed.
        """
        if self.closed(worker):
            raise StoreUnavailable(f"worker {worker} is closed: it may claim nothing any more")


def tell(row: Row, at: float, event: str, reason: str | None = None, *, token: int | None = None) -> None:
    """Add a line to the story of an entry; `token` where the line belongs to an attempt before the present one."""
    row.story += (StoryLine(at, event, row.token if token is None else token, row.attempts, reason),)


def keep_bytes(row: Row, message: bytes | None) -> None:
    """Give the entry the bytes that it lacks: it never loses those that it has before it is done."""
    if row.message is None:
        row.message = message


def start(data: MemoryData, row: Row, worker: int, nonce: int | None = None) -> None:
    """Claim the entry: the claim is the start."""
    row.before = row.state
    row.move(Event.CLAIM)
    row.worker, row.nonce, row.due_at = worker, nonce, None
    row.token = next(data.tokens)
    row.attempts += 1


def join(data: MemoryData, row: Row) -> None:
    """Put the entry at the end of its lane, if it has one."""
    if row.lane is not None:
        lane = data.lanes.setdefault((row.app, row.handler, row.tenant, row.lane), [])
        lane[:] = [other for other in lane if other is not row and other.state not in FINISHED] + [row]


def behind(data: MemoryData, row: Row) -> Row | None:
    """Return the entry at the head of the lane in which this one waits; `None`: it waits for nobody."""
    if row.lane is None or row.state in FINISHED:
        return None
    lane = data.lanes[row.app, row.handler, row.tenant, row.lane]
    head = next(other for other in lane if other.state not in FINISHED)
    return None if head is row else head


def due_rows(rows: Iterable[Row], now: float) -> Iterator[Row]:
    """Yield those that hold their bytes and are due, oldest due first."""
    due = [
        (row.due_at, row)
        for row in rows
        if row.due_at is not None and row.due_at <= now and row.message is not None
    ]
    return (row for _, row in sorted(due, key=lambda pair: pair[0]))


def land(data: MemoryData, app: str, landing: Landing) -> Landed:
    """Write one entry at a way in, as `Arrivals.land` says."""
    row = data.rows.get(landing.identity)
    if row is None:
        _insert(data, app, landing)
        return Landed.NEW
    # The identity of what cannot be keyed is a digest over the message: its key is a name for people.
    if not landing.keyed or (row.key, row.fingerprint) == (landing.key, landing.fingerprint):
        if row.state in {State.WAITING, State.IN_DOUBT, State.DEAD}:
            keep_bytes(row, landing.message)
        return Landed.DUPLICATE
    if landing.conflict_identity not in data.rows:
        what = "payload" if row.key == landing.key else "key"
        born_dead = msgspec.structs.replace(
            landing,
            identity=landing.conflict_identity,
            state=State.DEAD,
            keyed=False,
            reason=f"conflict: another {what} has this identity",
        )
        _insert(data, app, born_dead)
    return Landed.CONFLICT


def send(data: MemoryData, app: str, outgoing: Sequence[Outgoing]) -> None:
    """Insert outgoing messages, in order."""
    now = data.now()
    for message in outgoing:
        seq = next(data.places)
        pending = Pending(seq, msgspec.structs.replace(message, delay=0.0), created_at=now, app=app)
        data.outbox[seq] = OutgoingRow(app, now + message.delay, pending)


def _insert(data: MemoryData, app: str, landing: Landing) -> None:
    now = data.now()
    row = data.rows[landing.identity] = Row(
        landing.identity,
        app,
        landing.tenant,
        landing.handler,
        landing.key,
        landing.fingerprint,
        landing.on_lapse,
        landing.budget,
        created_at=now,
        reason=landing.reason,
        message=landing.message,
        keyed=landing.keyed,
        lane=landing.lane,
    )
    if landing.state is State.DEAD:
        row.move(Event.REJECT)
    else:
        row.move(Event.LAND, landing.state)
        row.due_at = now + landing.delay
        join(data, row)
