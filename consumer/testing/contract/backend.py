"""What the contract suite needs of a store's test module: handles, and a hand on the store's clock."""

from __future__ import annotations

from typing import Protocol

from consumer.ports.store import Capabilities, Store

__all__ = ["Backend"]


class Backend(Protocol):
    """One empty set of data, and as many handles on it as a case asks for.

    A case gets a fresh backend and leaves it in any condition; whoever made it closes it.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What the store declares; equal to the `capabilities` of every handle."""
        ...

    async def open(self, app: str = "shop") -> Store:
        """Another opened, migrated handle on the same data, as another process would have."""
        ...

    async def kill(self, store: Store, worker: int) -> None:
        """That worker's process is gone: its sign of life lies further back than its time-to-live.

        Nothing else is touched: the worker's row is still open, and its claims are still running.

        Args:
            store: the handle that opened the worker.
            worker: its number.
        """
        ...

    async def hasten(self) -> None:
        """Every due time (entries, doubts, outgoing messages) is now past; their order stays."""
        ...

    async def age(self, seconds: float) -> None:
        """Every entry was created that many seconds earlier."""
        ...

    async def close(self) -> None:
        """Close all handles and drop the data. Never raises because a case failed in the middle."""
        ...
