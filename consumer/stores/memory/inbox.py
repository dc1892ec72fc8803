"""Claims and settles of the in-memory store: `ports.inbox.Inbox`, read as shortly as it can be."""

from __future__ import annotations

from collections.abc import Sequence

from consumer.entry import Answer, Claim, Conflicting, Held, Kind, Settle, Settled, State, Won
from consumer.rules.states import TRANSITIONS, Event
from consumer.stores.memory.data import MemoryData, Row, behind, keep_bytes, land, send, start, tell

__all__ = ["MemoryInbox"]

_EVENTS = {
    Kind.COMPLETE: Event.COMPLETE,
    Kind.RETRY: Event.RETRY,
    Kind.DOUBT: Event.DOUBT,
    Kind.BURY: Event.BURY,
    Kind.RELEASE: Event.RELEASE,
}
_BODILY = frozenset({State.WAITING, State.IN_DOUBT, State.DEAD})


class MemoryInbox:
    """No verb awaits anything, so each of them is one commit.

    Args:
        data: what is shared with the other handles.
        app: this handle's.
    """

    def __init__(self, data: MemoryData, app: str) -> None:
        self._data = data
        self._app = app

    async def turn(
        self, worker: int, settles: Sequence[Settle], claims: Sequence[Claim]
    ) -> tuple[list[Settled], list[Answer]]:
        """Settle the finished, then claim the next; see `ports.inbox.Inbox.turn`."""
        if claims:
            self._data.refuse_closed(worker)
        return [self._settle(settle) for settle in settles], [self._claim(worker, claim) for claim in claims]

    async def look(self, claims: Sequence[Claim]) -> list[Answer | None]:
        """Read what `turn` would answer; see `ports.inbox.Inbox.look`."""
        answers = [self._judge(self._data.rows.get(claim.identity), claim) for claim in claims]
        return [None if isinstance(answer, Won) else answer for answer in answers]

    # ---------------------------------------------------------------------------------------------------- claims

    def _claim(self, worker: int, claim: Claim) -> Answer:
        data = self._data
        row = data.rows.get(claim.identity)
        answer = self._judge(row, claim)
        if answer is not None:
            return answer
        if row is None:
            row = data.rows[claim.identity] = Row(
                claim.identity,
                self._app,
                claim.tenant,
                claim.handler,
                claim.key,
                claim.fingerprint,
                claim.on_lapse,
                claim.budget,
                created_at=data.now(),
            )
        row.on_lapse, row.budget = claim.on_lapse, claim.budget
        keep_bytes(row, claim.message)
        start(data, row, worker, claim.nonce)
        return Won(row.token, row.attempts)

    def _judge(self, row: Row | None, claim: Claim) -> Answer | None:
        """Return why the entry is not this claim's to start, `None` where it is."""
        if row is None:
            return None
        if row.key != claim.key:
            return Conflicting("another key has this identity")
        if row.fingerprint != claim.fingerprint:
            return Conflicting("this key was used with another payload")
        if row.state is State.RUNNING and row.nonce == claim.nonce:
            return Won(row.token, row.attempts)
        if (row.state, Event.CLAIM) in TRANSITIONS and (
            row.message is None or (claim.stored and self._due(row))
        ):
            return None
        stored = row.message is not None
        return Held(row.state, stored, row.token, row.attempts, row.result, row.reason, row.created_at)

    def _due(self, row: Row) -> bool:
        return row.due_at is not None and row.due_at <= self._data.now() and behind(self._data, row) is None

    # --------------------------------------------------------------------------------------------------- settles

    def _settle(self, settle: Settle) -> Settled:
        row = self._data.rows.get(settle.identity)
        if row is None:
            return Settled.LOST
        if settle.kind is Kind.ATTACH:
            if row.state not in _BODILY:
                return Settled.LOST
            keep_bytes(row, settle.message)
            return Settled.OK
        if row.token == settle.token and (row.state, _EVENTS[settle.kind]) in TRANSITIONS:
            self._apply(row, settle)
            return Settled.OK
        if row.token == settle.token and row.state is _aim(row, settle.kind):
            # The same settle again (a lost reply), or a lapse came to the same state before it. In the second case
            # the entry may still lack its bytes, and an OK permits the acknowledgement.
            if row.state is not State.DONE:
                keep_bytes(row, settle.message)
            return Settled.OK
        if settle.kind is Kind.COMPLETE and any(
            line.event == "resolve" and line.token == settle.token for line in row.story
        ):
            tell(row, self._data.now(), "second_effect_suspected", token=settle.token)
        return Settled.LOST

    def _apply(self, row: Row, settle: Settle) -> None:
        now = self._data.now()
        if row.state is State.IN_DOUBT:
            tell(row, now, "late", settle.reason)
        match settle.kind:
            case Kind.COMPLETE:
                self._complete(row, settle)
            case Kind.RELEASE:
                self._release(row, now)
            case _:
                aim = _aim(row, settle.kind)
                row.move(_EVENTS[settle.kind], aim)
                keep_bytes(row, settle.message)
                row.reason, row.due_at, row.asks = settle.reason, None, 0
                if settle.delay is not None and aim is not State.DEAD:
                    row.due_at = now + settle.delay
                elif aim is State.WAITING:
                    row.due_at = now
                tell(row, now, _STORY[row.state], settle.reason)

    def _complete(self, row: Row, settle: Settle) -> None:
        row.move(Event.COMPLETE)
        row.result, row.message, row.reason, row.due_at = settle.result, None, None, None
        send(self._data, row.app, settle.outgoing)
        for landing in settle.landings:
            land(self._data, row.app, landing)

    def _release(self, row: Row, now: float) -> None:
        row.move(Event.RELEASE, row.before)
        row.attempts -= 1
        row.due_at = now
        if row.state is State.ABSENT:
            del self._data.rows[row.identity]


_STORY = {State.WAITING: "retry", State.IN_DOUBT: "doubt", State.DEAD: "bury"}


def _aim(row: Row, kind: Kind) -> State | None:
    """Return the state that a settle of this kind leads to; the state before for a release."""
    match kind:
        case Kind.COMPLETE:
            return State.DONE
        case Kind.RETRY:
            return State.DEAD if row.attempts >= row.budget else State.WAITING
        case Kind.DOUBT:
            return State.IN_DOUBT
        case Kind.BURY:
            return State.DEAD
        case _:
            return None
