"""Claims and settles: `ports.inbox.Inbox`. One script a bucket does both; on a single server that is one commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from consumer.entry import Answer, Claim, Settle, Settled
from consumer.stores.redis.buckets import by_bucket
from consumer.stores.redis.calls import Calls
from consumer.stores.redis.faults import HistoryBroken
from consumer.stores.redis.history import History
from consumer.stores.redis.moving import Moving, move, moving_of
from consumer.stores.redis.names import Names
from consumer.stores.redis.scripts import Script
from consumer.stores.redis.values import answer_of, claim_args, settle_args

__all__ = ["RedisInbox"]

_TURN = Script("history", "entry", "judge", "outgoing", "landing", "complete", "settle", "turn")
_LOOK = Script("entry", "judge", "look")


class RedisInbox:
    """`ports.inbox.Inbox`.

    Args:
        calls: how buckets are asked.
        app: this handle's.
        history: of the buckets.
        names: to announce.
    """

    def __init__(self, calls: Calls, app: str, history: History, names: Names) -> None:
        self._calls = calls
        self._app = app
        self._history = history
        self._names = names

    async def turn(
        self, worker: int, settles: Sequence[Settle], claims: Sequence[Claim]
    ) -> tuple[list[Settled], list[Answer]]:
        """Settle the finished, then claim the next; see `ports.inbox.Inbox.turn`.

        On a cluster it is one commit a bucket: after a fault in one of them the same call is repeated as a whole.
        """
        if not settles and not claims:
            return [], []
        await self._names.announce(
            {
                *((claim.tenant, claim.handler) for claim in claims),
                *((landing.tenant, landing.handler) for settle in settles for landing in settle.landings),
            }
        )
        turn = _Turn(self._app, self._calls.buckets, worker, settles, claims)
        if not claims:
            return await self._read(turn, await self._calls.run_all(_TURN, turn.args(_nothing)))
        # Also where it only settles a bucket is asked whether this worker may claim: all of the call, or nothing.
        try:
            replies = await self._history.claiming(
                turn.buckets,
                lambda: self._calls.run_all(
                    _TURN, turn.args(lambda bucket: self._history.seen(bucket, worker))
                ),
            )
        except HistoryBroken:
            self._names.forget()  # the store may have lost them too
            raise
        return await self._read(turn, replies)

    async def look(self, claims: Sequence[Claim]) -> list[Answer | None]:
        """Read what `turn` would answer; see `ports.inbox.Inbox.look`."""
        if not claims:
            return []
        places = by_bucket((claim.identity for claim in claims), self._calls.buckets)
        args = [(bucket, ([claim_args(claims[i]) for i in where],)) for bucket, where in places.items()]
        answers: list[Answer | None] = [None] * len(claims)
        replies = await self._calls.run_all(_LOOK, args)
        for (bucket, where), reply in zip(places.items(), replies, strict=True):
            for i, answer in zip(where, reply, strict=True):
                answers[i] = None if answer is None else answer_of(answer, bucket)
        return answers

    async def _read(self, turn: _Turn, replies: Sequence[Any]) -> tuple[list[Settled], list[Answer]]:
        settled = [Settled.LOST] * len(turn.settles)
        answers: list[Any] = [None] * len(turn.claims)
        moving: list[Moving] = []
        for bucket, (count, oks, answered, owed) in zip(turn.buckets, replies, strict=True):
            if turn.claims:
                self._history.counted(bucket, turn.worker, count)
            for i, ok in zip(turn.ends.get(bucket, ()), oks, strict=True):
                settled[i] = Settled.OK if ok else Settled.LOST
            for i, answer in zip(turn.starts.get(bucket, ()), answered, strict=True):
                answers[i] = answer_of(answer, bucket)
            moving += moving_of(bucket, owed)
        if moving:
            await move(self._calls, moving)
        return settled, answers


class _Turn:
    """One turn, divided by buckets."""

    __slots__ = ("_app", "_count", "buckets", "claims", "ends", "settles", "starts", "worker")

    def __init__(
        self, app: str, count: int, worker: int, settles: Sequence[Settle], claims: Sequence[Claim]
    ) -> None:
        self._app = app
        self._count = count
        self.worker = worker
        self.settles = settles
        self.claims = claims
        self.ends = by_bucket((settle.identity for settle in settles), count)
        self.starts = by_bucket((claim.identity for claim in claims), count)
        self.buckets = list({**self.ends, **self.starts})

    def args(self, seen: Callable[[int], Any]) -> list[tuple[int, tuple[Any, ...]]]:
        """Return the arguments of each bucket's script; see lua/turn.lua."""
        claiming = bool(self.claims)
        return [
            (
                bucket,
                (
                    self._app,
                    str(self.worker),
                    claiming,
                    seen(bucket),
                    [
                        settle_args(self.settles[i], self._app, bucket, self._count)
                        for i in self.ends.get(bucket, ())
                    ],
                    [claim_args(self.claims[i]) for i in self.starts.get(bucket, ())],
                ),
            )
            for bucket in self.buckets
        ]


def _nothing(_bucket: int) -> tuple[None, int, int]:
    """A turn that claims nothing is not compared with what is known of the bucket."""
    return None, 0, 0
