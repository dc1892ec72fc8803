"""Ask what became of attempts whose outcome is not known."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from consumer.declare.context import Context, Done, NotDone
from consumer.declare.handlers import Handler
from consumer.declare.resources import attempt_resources
from consumer.entry import State, Taken
from consumer.message import Envelope, Message
from consumer.path.attempt import one_line
from consumer.path.parts import Parts
from consumer.ports.operator import Doubts, Resolution
from consumer.ports.tracing import Span

__all__ = ["LEASE", "TRIES", "ask_about_doubts"]

LEASE = 30.0
"""Seconds that one question may take; nobody else asks meanwhile, and an unanswered one is asked again after it."""

TRIES = 20
"""Questions per entry; then it waits for a person."""

_log = logging.getLogger("consumer.reconcile")


async def ask_about_doubts(parts: Parts, doubts: Doubts, handlers: Sequence[Handler], limit: int = 16) -> int:
    """Run `reconcile` for due in-doubt entries of `handlers`, under a claim of its own; return how many were resolved.

    `Done` ends the entry with the result and messages given. `NotDone` permits one new start, with a new token.
    `Unknown`, an exception or no answer in time leaves it in doubt; it is asked again later, `TRIES` times.

    Raises:
        StoreUnavailable: later, again.
    """
    by_name = {handler.name: handler for handler in handlers}
    if not by_name:
        return 0
    taken = await doubts.ask(sorted(by_name), limit, LEASE, TRIES)
    answers = await asyncio.gather(*(_ask(parts, by_name[entry.handler], entry) for entry in taken))
    resolved = 0
    for answer in answers:
        if answer is not None and await doubts.resolve(answer):
            resolved += 1
    return resolved


async def _ask(parts: Parts, handler: Handler, entry: Taken) -> Resolution | None:
    message = Message.decode(entry.message)
    ctx = Context(
        identity=entry.identity,
        key=entry.key,
        tenant=entry.tenant,
        token=entry.token,
        attempt=entry.attempt,
        message=message,
        carried=parts.tracing.carried,
    )
    seen = Envelope(message, None, entry.tenant, entry.key, entry.identity, entry.fingerprint, stored=True)
    try:
        with parts.tracing.attempt(handler.name, [seen], entry.attempt, operation="reconcile") as span:
            return await _answered(parts, handler, entry, ctx, span)
    except Exception as raised:  # noqa: BLE001 - whatever a user's reconcile raises means "not known"
        _log.warning("%s: reconcile raised %s; the entry stays in doubt", handler.name, one_line(raised))
    finally:
        ctx.revoke()
    return None


async def _answered(
    parts: Parts, handler: Handler, entry: Taken, ctx: Context, span: Span
) -> Resolution | None:
    """Ask, and make a resolution of the answer; `None`: it is still not known."""
    try:
        async with (
            asyncio.timeout(LEASE * 0.8),
            attempt_resources(parts.resources, handler.reconcile_needs, ctx, None) as resources,
        ):
            answer = await handler.reconcile(ctx, resources)
    except Exception as raised:
        span.ended("raised", raised, failed=True)
        raise
    span.ended({Done: "done", NotDone: "not_done"}.get(type(answer), "unknown"))
    if isinstance(answer, Done):
        for out in answer.publish:
            ctx.publish(
                out.topic, out.value, ordering_key=out.ordering_key, headers=out.headers, delay=out.delay
            )
        outgoing, landings = parts.router.route(ctx.published)
        return Resolution(
            entry.identity,
            entry.token,
            State.DONE,
            "reconcile: done",
            handler.encode_result(answer.result),
            outgoing,
            landings,
        )
    if isinstance(answer, NotDone):
        return Resolution(entry.identity, entry.token, State.WAITING, "reconcile: not done")
    return None
