"""Claims and settles: one transaction a turn."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from consumer.entry import Answer, Claim, Settle, Settled, State, Won
from consumer.stores.sqlite.claims import judge, see
from consumer.stores.sqlite.connect import Link, now
from consumer.stores.sqlite.rows import refuse_closed, reserve
from consumer.stores.sqlite.settles import settle

__all__ = ["SqliteInbox"]

_FIRST = f"""insert into consumer_inbox
    (id, app, tenant, handler, key, fingerprint, on_lapse, budget, message, worker, nonce, token, created_at,
     state, attempts)
    values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, {State.RUNNING:d}, 1)
    on conflict (id) do nothing"""

_NEXT = f"""update consumer_inbox set state = {State.RUNNING:d}, before = state, token = ?,
    attempts = attempts + 1, worker = ?, nonce = ?, on_lapse = ?, budget = ?,
    message = coalesce(message, ?), due_at = null
    where seq = ?"""


class SqliteInbox:
    """`ports.inbox.Inbox`.

    Args:
        writes: the connection for turns.
        reads: the connection for looks, which wait for no writer.
        app: this handle's.
    """

    def __init__(self, writes: Link, reads: Link, app: str) -> None:
        self._writes = writes
        self._reads = reads
        self._app = app

    async def turn(
        self, worker: int, settles: Sequence[Settle], claims: Sequence[Claim]
    ) -> tuple[list[Settled], list[Answer]]:
        """Settle the finished and claim the next in one commit; see `ports.inbox.Inbox.turn`."""
        if not settles and not claims:
            return [], []
        return await self._writes.write(_turn, self._app, worker, settles, claims)

    async def look(self, claims: Sequence[Claim]) -> list[Answer | None]:
        """Read what `turn` would answer; see `ports.inbox.Inbox.look`."""
        return await self._reads.read(_look, claims) if claims else []


def _turn(
    connection: sqlite3.Connection, app: str, worker: int, settles: Sequence[Settle], claims: Sequence[Claim]
) -> tuple[list[Settled], list[Answer]]:
    at = now()
    if claims:
        refuse_closed(connection, app, worker)
    settled = [settle(connection, app, one, at) for one in settles]
    first = reserve(connection, len(claims))
    answers = [
        _claim(connection, app, worker, claim, token=first + i, at=at) for i, claim in enumerate(claims)
    ]
    return settled, answers


def _claim(
    connection: sqlite3.Connection, app: str, worker: int, claim: Claim, *, token: int, at: float
) -> Answer:
    inserted = connection.execute(
        _FIRST,
        (
            claim.identity,
            app,
            claim.tenant,
            claim.handler,
            claim.key,
            claim.fingerprint,
            claim.on_lapse,
            claim.budget,
            claim.message,
            worker,
            claim.nonce,
            token,
            at,
        ),
    )
    if inserted.rowcount == 1:
        return Won(token, 1)
    seen = see(connection, claim.identity)
    assert seen is not None  # noqa: S101 - it stood in the way a moment ago, and we are the only writer
    answer = judge(seen, claim, at, again=True)
    if answer is not None:
        return answer
    connection.execute(
        _NEXT, (token, worker, claim.nonce, claim.on_lapse, claim.budget, claim.message, seen.seq)
    )
    return Won(token, seen.attempts + 1)


def _look(connection: sqlite3.Connection, claims: Sequence[Claim]) -> list[Answer | None]:
    at = now()
    answers: list[Answer | None] = []
    for claim in claims:
        seen = see(connection, claim.identity)
        answer = None if seen is None else judge(seen, claim, at, again=True)
        answers.append(None if isinstance(answer, Won) else answer)
    return answers
