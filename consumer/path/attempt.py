"""One delivery's attempt: run the handler, and say how it ended as a value."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import msgspec

from consumer.declare.batch import Batch, Item
from consumer.declare.context import Context
from consumer.declare.handlers import Handler
from consumer.declare.resources import attempt_resources
from consumer.declare.tx import Tx, Writes
from consumer.entry import Won
from consumer.errors import Reject, Retry
from consumer.message import Envelope, Outgoing
from consumer.path.parts import Attempt, Parts, Work
from consumer.ports.inbox import Group
from consumer.rules.modes import Outcome

__all__ = [
    "LONGEST_REASON",
    "Verdict",
    "attempt",
    "context_of",
    "one_line",
    "runs_on",
    "stopped",
    "verdict_of_mark",
]

LONGEST_REASON = 500
"""Characters of a reason that are kept: it is for people, a traceback belongs in the log."""


_NO_ERROR = {Outcome.RETURNED, Outcome.REJECT}
"""Outcomes that count as no error where attempts are traced: a refusal is an answer."""


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """How an attempt ended, before the mode decides what that means.

    Attributes:
        outcome: a column of the mode table.
        result: the encoded result (returned).
        published: what the handler published (returned).
        reason: for people.
        after: the delay that `Retry` asked for, in seconds.
        error: what was raised, for the log and for a direct caller.
        seconds: how long the handler ran.
    """

    outcome: Outcome
    result: bytes | None = None
    published: tuple[Outgoing, ...] = ()
    reason: str | None = None
    after: float | None = None
    error: BaseException | None = None
    seconds: float = 0.0

    @property
    def returned(self) -> bool:
        """The handler returned."""
        return self.outcome is Outcome.RETURNED


async def attempt(
    parts: Parts,
    work: Work,
    won: Won,
    *,
    group: Group | None = None,
    writes: Writes | None = None,
    payload: Any = None,
    batch: Sequence[Envelope] = (),
) -> Verdict:
    """Run the handler of `work` once and return how that ended. A handler of batches gets a batch of one.

    The time-out is a request to stop: a handler that answers it with a result has returned. Context and Tx are revoked
    when the handler is over, so a task that it left behind can write nothing into a neighbour's transaction.

    Args:
        parts: what the path works with.
        work: what to run.
        won: the claim's token and attempt.
        group: the open transaction of a Transactional handler.
        writes: what the group has collected so far.
        payload: what the handler is called with; `None`: the envelope's payload.
        batch: the envelopes of all its items, where `payload` is a batch.

    Raises:
        asyncio.CancelledError: the runtime was told to stop; the outcome of the attempt is not known.
    """
    with parts.tracing.attempt(work.handler.name, batch or (work.envelope,), won.attempt) as span:
        verdict = await _attempt(parts, work, won, group=group, writes=writes, payload=payload)
        failed = verdict.outcome not in _NO_ERROR
        span.ended(verdict.outcome.name.lower(), verdict.error, failed=failed)
    return verdict


async def _attempt(
    parts: Parts, work: Work, won: Won, *, group: Group | None, writes: Writes | None, payload: Any
) -> Verdict:
    handler = work.handler
    ctx = context_of(parts, work, won)
    item: Item[Any] | None = None
    if payload is None:
        payload = work.envelope.payload
        if handler.batch is not None:
            item = Item(payload, ctx)
            payload = Batch([item])
    tx = Tx(group, writes) if group is not None and writes is not None else None
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("an attempt runs inside a task, which its time-out cancels")
    cancelling = task.cancelling()
    started = parts.clock.monotonic()
    running = parts.running[task] = Attempt(work, won, started + handler.timeout, group)
    limit = parts.timer.limit(task, handler.timeout)
    try:
        with limit:
            returned = await _called(parts, handler, payload, ctx, tx)
        await _let_off(task, cancelling, running)
        if running.abandoned and group is not None:
            raise asyncio.CancelledError("given up: its transaction was rolled back meanwhile")
        if item is not None and item.mark is not None:
            return verdict_of_mark(item.mark, (), parts.clock.monotonic() - started)
        return Verdict(
            Outcome.RETURNED,
            handler.encode_result(returned),
            ctx.published,
            seconds=parts.clock.monotonic() - started,
        )
    except (Exception, SystemExit, asyncio.CancelledError) as raised:
        # A CancelledError that the runtime did not ask for came out of the handler itself (it awaited something that was
        # cancelled, or cancelled its own task): an unknown outcome like any other exception.
        if isinstance(raised, asyncio.CancelledError) and (running.abandoned or running.stopping):
            raise
        if running.abandoned and group is not None:
            # Nobody waits for this verdict: the lane has gone on, and its group must not.
            raise asyncio.CancelledError("given up: its transaction was rolled back meanwhile") from raised
        error = raised
    finally:
        parts.running.pop(task, None)
        ctx.revoke()
        if tx is not None:
            tx.revoke()
    _uncancelled(task)
    outcome, reason = _unsuccessful(error, handler.timeout, expired=limit.expired)
    return Verdict(
        outcome,
        reason=reason[:LONGEST_REASON],
        after=error.after if isinstance(error, Retry) else None,
        error=error,
        seconds=parts.clock.monotonic() - started,
    )


def _uncancelled(task: asyncio.Task[Any]) -> None:
    """Take back what a handler has asked of its own task: the task goes on with the next delivery."""
    while task.cancelling():
        task.uncancel()


async def _let_off(task: asyncio.Task[Any], cancelling: int, running: Attempt) -> None:
    """Take back what a handler has asked of its own task just before it returned (`cancelling` requests were there before).

    Before Python 3.13 `uncancel` leaves a cancellation pending, which would come at the next `await`: in the middle of the
    path, where it would end the lane.
    """
    if task.cancelling() <= cancelling or running.stopping:
        return
    _uncancelled(task)
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)


async def _called(parts: Parts, handler: Handler, payload: Any, ctx: Context, tx: Tx | None) -> Any:
    if not handler.needs:
        return await handler.call(payload, ctx, tx, {})
    async with attempt_resources(parts.resources, handler.needs, ctx, tx) as resources:
        return await handler.call(payload, ctx, tx, resources)


def context_of(parts: Parts, work: Work, won: Won) -> Context:
    """Return the context of one attempt."""
    envelope = work.envelope
    return Context(
        identity=envelope.identity,
        key=envelope.key,
        tenant=envelope.tenant,
        token=won.token,
        attempt=won.attempt,
        message=envelope.message,
        carried=parts.tracing.carried,
    )


def verdict_of_mark(mark: Retry | Reject | None, published: tuple[Outgoing, ...], seconds: float) -> Verdict:
    """Return the verdict on one item of a batch whose handler has returned."""
    if mark is None:
        return Verdict(Outcome.RETURNED, None, published, seconds=seconds)
    outcome, reason = _unsuccessful(mark, 0.0, expired=False)
    after = mark.after if isinstance(mark, Retry) else None
    return Verdict(outcome, reason=reason[:LONGEST_REASON], after=after, error=mark, seconds=seconds)


def _unsuccessful(error: BaseException, timeout: float, *, expired: bool) -> tuple[Outcome, str]:
    """Name the outcome of an attempt that has raised: only `Retry` and `Reject` declare that it had no effect."""
    if isinstance(error, Retry):
        return Outcome.RETRY, _kept(error.reason) or "Retry"
    if isinstance(error, Reject):
        return Outcome.REJECT, _kept(error.reason)
    if isinstance(error, TimeoutError) and expired:
        return Outcome.TIMED_OUT, f"no result within {timeout:g} s"
    return Outcome.RAISED, one_line(error)


def runs_on(work: Work) -> Verdict:
    """Return the verdict on a handler that ignores its cancellation: its time-out is over, and it is still at work."""
    return Verdict(Outcome.TIMED_OUT, reason=f"no result within {work.handler.timeout:g} s, and it runs on")


def stopped() -> Verdict:
    """Return the verdict on an attempt that the runtime itself has stopped: what it had done by then is not known."""
    return Verdict(Outcome.TIMED_OUT, reason="stopped by shutdown before it had ended")


def one_line(error: BaseException) -> str:
    """Return `Type: text` on one line, for people; what no store can keep (NUL, lone surrogates) is replaced."""
    text = _kept(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _kept(reason: str) -> str:
    """Return a reason as every store can keep it: one line, no NUL, no lone surrogates."""
    return " ".join(reason.replace("\0", " ").split()).encode("utf-8", "replace").decode()
