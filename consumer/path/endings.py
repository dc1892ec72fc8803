"""settle, ack: from answers and verdicts to settles and endings. Pure functions over values."""

from __future__ import annotations

from consumer.entry import Conflicting, Held, Kind, Settle, State, Won
from consumer.path.attempt import Verdict
from consumer.path.parts import Ending, Work
from consumer.path.routing import Router
from consumer.rules.modes import Outcome, Verb, decide

__all__ = ["ending_of_answer", "ending_of_settle", "fenced", "permits_ack", "running_elsewhere", "settle_of"]

FIRST_QUESTION = 5.0
"""Seconds between a doubt that was seen as it happened and the first question to `reconcile`."""


def permits_ack(state: State, *, stored: bool) -> bool:
    """The ack rule: done, or at rest with its bytes in the store. Never while it runs, never while nothing holds the bytes."""
    if state is State.DONE:
        return True
    return stored and state in {State.RECEIVED, State.WAITING, State.IN_DOUBT, State.DEAD}


def settle_of(work: Work, won: Won, verdict: Verdict, router: Router) -> Settle:
    """Return the write that ends an attempt, as the mode of its handler decides.

    A Kafka message stores no body while all goes well; its bytes go in with the retry, the doubt or the burial.
    """
    identity, mode = work.envelope.identity, work.handler.mode
    verb = decide(mode, verdict.outcome)
    if verb is Verb.COMPLETE:
        outgoing, landings = router.route(verdict.published)
        return Settle(
            identity,
            won.token,
            Kind.COMPLETE,
            result=verdict.result,
            outgoing=outgoing,
            landings=landings,
            in_lane=work.envelope.lane is not None,
        )
    message = None if work.envelope.stored else work.envelope.message.encode()
    if verb is Verb.BURY:
        return Settle(identity, won.token, Kind.BURY, reason=verdict.reason, message=message)
    if verb is Verb.DOUBT:
        # Not before the time-out has passed once more: a handler that ignores its cancellation may still be at work.
        late = work.handler.timeout if verdict.outcome is Outcome.TIMED_OUT else FIRST_QUESTION
        return Settle(identity, won.token, Kind.DOUBT, reason=verdict.reason, delay=late, message=message)
    # a delay that is none (negative, NaN, infinite) is a slip of the handler's author, not a reason to lose the message
    asked = verdict.after is not None and 0 <= verdict.after < float("inf")
    delay = verdict.after if asked else mode.retry.delay(won.attempt)
    return Settle(identity, won.token, Kind.RETRY, reason=verdict.reason, delay=delay, message=message)


def ending_of_settle(work: Work, won: Won, settle: Settle) -> Ending:
    """Return how a delivery ended whose settle was accepted."""
    if settle.kind is Kind.COMPLETE:
        return Ending(State.DONE, ack=True, attempt=won.attempt, token=won.token, result=settle.result)
    if settle.kind is Kind.RETRY:
        spent = won.attempt >= work.handler.mode.retry.attempts
        state = State.DEAD if spent else State.WAITING
        delay = None if spent else settle.delay
        return Ending(
            state, ack=True, attempt=won.attempt, token=won.token, reason=settle.reason, delay=delay
        )
    state = State.IN_DOUBT if settle.kind is Kind.DOUBT else State.DEAD
    return Ending(state, ack=True, attempt=won.attempt, token=won.token, reason=settle.reason)


def ending_of_answer(answer: Held | Conflicting) -> Ending:
    """Return how a delivery ended that started nothing, as far as its claim's answer tells."""
    if isinstance(answer, Conflicting):
        return Ending(State.DEAD, ack=False, duplicate=True, conflict=True, reason=answer.reason)
    return Ending(
        answer.state,
        ack=permits_ack(answer.state, stored=answer.stored),
        duplicate=True,
        attempt=answer.attempt,
        token=answer.token,
        result=answer.result,
        reason=answer.reason,
    )


def fenced() -> Ending:
    """Return the ending of a delivery whose claim was lost: not acknowledged, asked again, never forgotten."""
    return Ending(State.RUNNING, ack=False, reason="the claim was lost to another worker")


def running_elsewhere(reason: str) -> Ending:
    """Return the ending of a delivery whose key somebody else holds right now: in hand, asked again later."""
    return Ending(State.RUNNING, ack=False, duplicate=True, reason=reason)
