"""Claims and settles: what the path asks of a store, outside and inside a transaction of the handler's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from consumer.entry import Answer, Claim, Landing, Settle, Settled, Taken
from consumer.message import Outgoing

__all__ = ["Group", "Groups", "Inbox"]


class Inbox(Protocol):
    """The claim is the start: what `turn` answers with `Won` is running from that moment."""

    async def turn(
        self, worker: int, settles: Sequence[Settle], claims: Sequence[Claim]
    ) -> tuple[list[Settled], list[Answer]]:
        """Settle the finished and claim the next, all in one commit, settles first.

        Settles. Every kind but `ATTACH` changes the entry only while it is `RUNNING` with the same token; otherwise the
        answer is `LOST` and nothing is changed. Exception: `COMPLETE`, `RETRY` and `BURY` are also accepted on an entry
        that is `IN_DOUBT` with the same token (a late settlement; story line `late`). A `COMPLETE` refused because a
        resolution has raised the token adds the story line `second_effect_suspected`: only where a resolution ended that very
        token, so the story line of a resolution carries the token that it ended.

        - `COMPLETE`: done, with the result; inserts `outgoing`, lands `landings` as `Arrivals.land` does; due time, worker
          and message are cleared (nothing reads the bytes of a done entry).
        - `RETRY`: waiting, due after `delay`; but when `attempts >= budget` it is buried with the same reason (story line
          `bury`). Story.
        - `DOUBT`: in doubt; due (for reconcile) after `delay`, never when `None`. Story.
        - `BURY`: dead. Story.
        - `RELEASE`: the state before the claim (received, waiting, or no row at all); the attempt is not counted; due now.
        - `ATTACH`: stores `message` on an entry that is waiting, in doubt or dead and holds no bytes. `OK` also where it
          holds them already; `LOST` in any other state.
        A settle that is answered `OK` because it finds its own state and token still stores the bytes that the entry lacks:
        what is acknowledged next must hold them. Reasons are kept as well as the store can (NUL, lone surrogates).
        A `message` given with any kind is stored (except with `COMPLETE` and `RELEASE`); an entry never loses its bytes
        before it is done.

        Claims. One identity occurs once in `claims` (the path collapses equal keys). Tokens come from one sequence of the
        whole store. An entry is won when it is

        - absent: a new row, attempt 1;
        - received or waiting and either without bytes, or the claim says `stored` and it is due: attempts + 1;
        - running with the same nonce (the same claim asked again): the same `Won` as before.
        Otherwise `Held`. A raw key or fingerprint that differs from the row's: `Conflicting`, whatever the state.
        The row remembers the state before, the worker, `on_lapse`, `budget` and the nonce.

        Args:
            worker: the claims belong to it; a closed worker's claims are refused with `StoreUnavailable`.
            settles: at most one per identity.
            claims: distinct identities.

        Raises:
            StoreUnavailable: nothing is known; the same call may be repeated (settles answer `LOST` if they happened:
                a repeated `COMPLETE` on an entry that is done with the same token answers `OK`, and so does a repeated
                `RETRY`, `DOUBT` or `BURY` that finds its own state and token).
        """
        ...

    async def look(self, claims: Sequence[Claim]) -> list[Answer | None]:
        """Read what `turn` would answer, without changing anything; `None` where it would be `Won`."""
        ...


class Group(Protocol):
    """One transaction on one connection, for the handlers of one group. Only stores with transactions have it.

    Order of use: `claim` or `due` or `take`; the handlers' statements; `fill`; `seal`; `commit`. The gate: the first of
    the three inserts a row whose deferred foreign key points nowhere, and only `seal` removes it, so a COMMIT by anybody
    else fails and undoes the group. Any fault: `rollback`, and nothing of the group has happened.
    """

    @property
    def driver(self) -> Any:
        """The driver's raw connection, for users (`Tx.driver`).

        Raises:
            GroupFault: the group is over: the connection may be a neighbour's by now, and a handler that was given up runs on.
        """
        ...

    async def claim(self, claims: Sequence[Claim]) -> list[Answer]:
        """Make the entries of `claims` done in this transaction.

        Answers, refusals and what can be won are as in `Inbox.turn` (no nonce; a running entry is `Held`), but a `Won`
        entry is already `DONE`, which nobody sees before `commit`. Attempts are counted as there. Waits for another
        transaction's uncommitted key no longer than the lock time-out, then raises `Contended`.
        """
        ...

    async def due(self, handlers: Sequence[str], limit: int) -> list[Taken]:
        """Take up to `limit` due entries of `handlers` that hold their bytes, oldest due first, and make them done.

        Skips what another transaction holds. Keyed and unkeyed entries alike; unkeyed ones are left for the path to undo
        (`unclaim`) or to resolve.
        """
        ...

    async def take(self, identity: bytes, token: int) -> bool:
        """Make the entry, running with this token (claimed by `Inbox.turn`), done. `False`: it is not, or is locked."""
        ...

    async def unclaim(self, identities: Sequence[bytes]) -> None:
        """Take back what `claim` or `due` did to these entries in this transaction: their handlers did not run."""
        ...

    async def settle(self, settles: Sequence[Settle]) -> None:
        """Settle entries that `claim` or `due` has made done, in this transaction, as `Inbox.turn` settles a running one.

        For handlers that had their turn and did not return (`RETRY`, `BURY`): what has returned commits with it, and nobody
        sees the entry due in between. The attempt is the one that was counted by the claim.
        """
        ...

    async def execute(self, sql: str, args: Sequence[Any]) -> int:
        """Run one statement of a handler; return the number of rows it changed (0 for others)."""
        ...

    async def fetch(self, sql: str, args: Sequence[Any]) -> list[Any]:
        """Run one statement of a handler; return its rows (by index and by name)."""
        ...

    async def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run one statement of handlers once per row, in order."""
        ...

    async def fill(
        self,
        results: Sequence[tuple[bytes, bytes]],
        outgoing: Sequence[Outgoing],
        landings: Sequence[Landing],
    ) -> None:
        """Store the results ((identity, result)), insert outgoing messages, land the embedded ones."""
        ...

    async def seal(self) -> None:
        """Check that this is still the transaction that claimed, and open the gate.

        Raises:
            GroupFault: the transaction is aborted, was ended by somebody else, or a deferred constraint does not hold.
        """
        ...

    async def commit(self) -> None:
        """Commit, and give the connection back. Never cancelled, no client-side time-out.

        Raises:
            CommitUnknown: the reply was lost; ask `outcome`.
            GroupFault: the server refused; nothing happened.
            StoreUnavailable: its disk is full, say; nothing happened.
        """
        ...

    async def outcome(self) -> bool:
        """After `CommitUnknown`: whether the transaction committed, asked on a new connection.

        Keeps asking while the server says that it is in progress.

        Raises:
            StoreUnavailable: still not known.
        """
        ...

    async def rollback(self) -> None:
        """Undo everything and give the connection back, or close it where it cannot be trusted. Never raises."""
        ...


class Groups(Protocol):
    """Where groups come from."""

    @property
    def lanes(self) -> int:
        """How many groups this process may have open at once (1 where the store has one writer)."""
        ...

    async def open(self) -> Group:
        """Begin a transaction on a free connection, waiting for one.

        Every group has limits on the server: on lock waits at the claim, on idling inside the transaction, on a statement.

        Raises:
            StoreUnavailable: no connection can be had.
        """
        ...
