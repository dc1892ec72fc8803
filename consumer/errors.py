"""Every exception of the project, grouped by who must act.

An ordinary outcome (a duplicate, a conflict, a lost claim) is a value, never an exception. What is raised here is either
said by a handler (`Retry`, `Reject`), a fault that somebody must mend, or the answer to a direct call.
"""

from __future__ import annotations

from datetime import timedelta

__all__ = [
    "AccessRefused",
    "BrokerUnavailable",
    "CommitUnknown",
    "Conflict",
    "ConsumerError",
    "Contended",
    "Dead",
    "GroupFault",
    "HandlerFault",
    "InDoubt",
    "InFlight",
    "RegistrationError",
    "Reject",
    "Retry",
    "SchemaMismatch",
    "SettingsError",
    "StoreUnavailable",
    "WriteFault",
    "WritesRefused",
]


class ConsumerError(Exception):
    """The root of every fault that this package raises at its users."""


# --- the author of a handler must act ---------------------------------------------------------------------------------


class RegistrationError(ConsumerError):
    """A declaration is wrong: the text names the handler, its file and line, and the mend."""


# --- whoever starts the process must act ------------------------------------------------------------------------------


class SettingsError(ConsumerError):
    """A setting is missing or wrong (exit code 78): the text names the setting, the value and the mend."""


class SchemaMismatch(SettingsError):
    """The store's tables are older or newer than this version can work with: the text says which command mends it."""


# --- nobody must act at once: the worker waits and goes on by itself --------------------------------------------------


class StoreUnavailable(ConsumerError):
    """The store does not answer (exit code 69 where a command cannot wait). What was asked for may have happened."""


class WritesRefused(StoreUnavailable):
    """The store answers, and takes no write: its disk or memory is full, somebody holds its lock, or it is a replica now."""


class AccessRefused(SettingsError, WritesRefused):
    """The store does not let us do what we must.

    Whoever starts with it is told at once (exit code 78). A worker to whom it happens under way is not ready and goes on by
    itself: a permission that was taken away may be given back.
    """


class BrokerUnavailable(ConsumerError):
    """The broker does not answer (exit code 69 where a command cannot wait). What was asked for may have happened."""


# --- said by a handler ------------------------------------------------------------------------------------------------


class Retry(Exception):
    """Raised by a handler: this attempt had no effect, try again later.

    Args:
        reason: shown to people beside the entry.
        after: seconds (or a timedelta) until the next attempt; by default the handler's `Backoff` decides. It counts as an attempt.
    """

    def __init__(self, reason: str = "", *, after: float | timedelta | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after.total_seconds() if isinstance(after, timedelta) else after


class Reject(Exception):
    """Raised by a handler: this attempt had no effect and no later one can have any. The entry becomes a dead letter.

    Args:
        reason: shown to people beside the entry, and to an HTTP caller.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


# --- answers to a direct call (`Running.call`) ------------------------------------------------------------------------


class InFlight(ConsumerError):
    """The key is being worked on, or waits for its next attempt."""


class InDoubt(ConsumerError):
    """The key's attempt ended without a known outcome; it is not started again until somebody resolves it."""


class Conflict(ConsumerError):
    """The key was used before with another payload. Nothing was run."""


class Dead(ConsumerError):
    """The key's entry is a dead letter; the text is its reason."""


# --- inside one group transaction (the path catches them, users never see them) ---------------------------------------


class GroupFault(ConsumerError):
    """The group's transaction is lost; all of it is rolled back. Names no culprit: every message runs alone."""


class Contended(GroupFault):
    """A deadlock, a serialization failure or a lock time-out. Nobody is at fault: smaller groups, then again."""


class WriteFault(GroupFault):
    """A collected write (`tx.write`) failed at its flush: which message queued it is not known."""


class HandlerFault(GroupFault):
    """One delivery's handler did not return, so the group was rolled back.

    Args:
        index: the position in the group of the delivery whose handler failed.
    """

    def __init__(self, index: int) -> None:
        super().__init__(f"the handler of delivery {index} of this group did not return")
        self.index = index


class CommitUnknown(GroupFault):
    """The reply to COMMIT was lost: ask `Group.outcome` on a new connection, never run the handlers again before."""
