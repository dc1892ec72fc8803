"""A store behind a bad network: it can be away for a while, and it can lose the reply to what it has done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from consumer.errors import CommitUnknown, StoreUnavailable

__all__ = ["Weather"]

_PORTS = ("inbox", "arrivals", "workers", "outbox", "operator", "doubts")


class Weather:
    """What lies between a runtime and its store.

    Attributes:
        down: every verb raises `StoreUnavailable`, and does nothing.
        refused: how many have.
        lose: asked with a verb's name and arguments after it has happened; true: its reply is lost.
        answer: what the verb that `lose` is asked about has answered.
        lost: the names of those whose reply was lost.
        cut: how many of the next COMMITs never reach the server: the connection is lost before.
        calls: every verb that reached the store, in order.
    """

    def __init__(self) -> None:
        self.down = False
        self.refused = 0
        self.lose: Callable[[str, tuple[Any, ...]], bool] = lambda verb, args: False
        self.answer: Any = None
        self.lost: list[str] = []
        self.cut = 0
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.moved = asyncio.Event()

    def wrap(self, store: Any) -> Any:
        """Return the store as it is seen through this weather."""
        return _Store(store, self)

    async def next_refusal(self) -> None:
        """Wait until a verb has met a store that is down."""
        self.moved.clear()
        await asyncio.wait_for(self.moved.wait(), 10)

    async def pass_on(
        self, verb: str, ask: Callable[..., Any], args: tuple[Any, ...], more: dict[str, Any]
    ) -> Any:
        if self.down:
            self.refused += 1
            self.moved.set()
            raise StoreUnavailable("the network is down")
        self.calls.append((verb, args))
        answer = self.answer = await ask(*args, **more)
        if self.lose(verb, args):
            self.lost.append(verb)
            raise StoreUnavailable("the reply was lost")
        return answer


class _Store:
    def __init__(self, store: Any, weather: Weather) -> None:
        self._store = store
        for name in _PORTS:
            setattr(self, name, _Port(getattr(store, name), weather))
        self.groups = _Groups(store.groups, weather)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class _Port:
    """One port: every verb of it goes through the weather."""

    def __init__(self, port: Any, weather: Weather) -> None:
        self._port = port
        self._weather = weather

    def __getattr__(self, verb: str) -> Any:
        ask = getattr(self._port, verb)

        async def through(*args: Any, **more: Any) -> Any:
            return await self._weather.pass_on(verb, ask, args, more)

        return through


class _Groups:
    def __init__(self, groups: Any, weather: Weather) -> None:
        self._groups = groups
        self._weather = weather
        self.lanes = groups.lanes

    async def open(self) -> Any:
        return _Group(await self._weather.pass_on("open", self._groups.open, (), {}), self._weather)


class _Group(_Port):
    """A group: its rollback always succeeds, and a lost reply to COMMIT is what it is on a real network."""

    @property
    def driver(self) -> Any:
        return self._port.driver

    async def rollback(self) -> None:
        await self._port.rollback()

    async def commit(self) -> None:
        if self._weather.cut:
            self._weather.cut -= 1
            await self._port.rollback()
            raise CommitUnknown("the connection was lost")
        try:
            await self._weather.pass_on("commit", self._port.commit, (), {})
        except StoreUnavailable as fault:
            raise CommitUnknown(str(fault)) from fault
