"""Claims and settles: `ports.inbox.Inbox`. One script a bucket does both; on a single server that is one commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from consumer.entry import Answer, Claim, Settle, Settled
from consumer.stores.redis.buckets import by_bucket
from consumer.stores.redis.calls import Calls
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
        ends = by_bucket((settle.identity for settle in settles), self._calls.buckets)
        starts = by_bucket((claim.identity for claim in claims), self._calls.buckets)
        buckets = list({**ends, **starts})
        if not claims:
            replies = await self._call(worker, settles, claims, ends, starts, buckets)
        else:
            # Also where it only settles a bucket is asked whether this worker may claim: all of the call, or nothing.
            try:
                replies = await self._history.claiming(
                    buckets, lambda: self._call(worker, settles, claims, ends, starts, buckets)
                )
            except BaseException:
                self._names.forget()
                raise
        return await self._read(worker, settles, claims, ends, starts, dict(zip(buckets, replies, strict=True)))

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

    async def _call(
        self,
        worker: int,
        settles: Sequence[Settle],
        claims: Sequence[Claim],
        ends: dict[int, list[int]],
        starts: dict[int, list[int]],
        buckets: Sequence[int],
    ) -> list[Any]:
        claiming = bool(claims)
        args = [
            (
                bucket,
                (
                    self._app,
                    str(worker),
                    claiming,
                    self._history.seen(bucket, worker) if claiming else (None, 0, 0),
                    [
                        settle_args(settles[i], self._app, bucket, self._calls.buckets)
                        for i in ends.get(bucket, ())
                    ],
                    [claim_args(claims[i]) for i in starts.get(bucket, ())],
                ),
            )
            for bucket in buckets
        ]
        return await self._calls.run_all(_TURN, args)

    async def _read(
        self,
        worker: int,
        settles: Sequence[Settle],
        claims: Sequence[Claim],
        ends: dict[int, list[int]],
        starts: dict[int, list[int]],
        replies: dict[int, Any],
    ) -> tuple[list[Settled], list[Answer]]:
        settled = [Settled.LOST] * len(settles)
        answers: list[Any] = [None] * len(claims)
        moving: list[Moving] = []
        for bucket, (count, oks, answered, owed) in replies.items():
            if claims:
                self._history.counted(bucket, worker, count)
            for i, ok in zip(ends.get(bucket, ()), oks, strict=True):
                settled[i] = Settled.OK if ok else Settled.LOST
            for i, answer in zip(starts.get(bucket, ()), answered, strict=True):
                answers[i] = answer_of(answer, bucket)
            moving += moving_of(bucket, owed)
        if moving:
            await move(self._calls, moving)
        return settled, answers
