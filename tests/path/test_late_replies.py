"""A reply that is late is not lost: what its claim has won is started by us, or released to others, never both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from consumer import App, AtMostOnce, Key
from consumer.entry import Kind, Settle, State
from consumer.worker.sweep import Sweep
from tests.path.kit import Order, Shop, opened
from tests.path.listsource import ListSource
from tests.path.weather import Weather


class SlowReply:
    """A store whose reply to one verb stays away until `come`; everything else is answered at once.

    Attributes:
        away: set once the verb has happened and its reply is on its way.
        come: set by the test.
        wanted: which call's reply is slow, asked with the verb's name, its arguments and its answer.
        blind: a look before the claim knows no key yet, as if it had been asked just before another worker.
    """

    blind = False

    def __init__(self, wanted: Callable[[str, tuple[Any, ...], Any], bool]) -> None:
        self.away, self.come = asyncio.Event(), asyncio.Event()
        self.wanted = wanted

    def wrap(self, store: Any) -> Any:
        return _Slow(store, self)


class _Slow:
    def __init__(self, store: Any, reply: SlowReply) -> None:
        self._store = store
        self.inbox = _Port(store.inbox, reply)
        self.arrivals = _Port(store.arrivals, reply)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class _Port:
    def __init__(self, port: Any, reply: SlowReply) -> None:
        self._port, self._reply = port, reply

    def __getattr__(self, verb: str) -> Any:
        ask = getattr(self._port, verb)

        async def asked(*args: Any) -> Any:
            answer = await ask(*args)
            if not self._reply.away.is_set() and self._reply.wanted(verb, args, answer):
                self._reply.away.set()
                await self._reply.come.wait()
            return [None] * len(answer) if verb == "look" and self._reply.blind else answer

        return asked


def _claims(verb: str, args: tuple[Any, ...], answer: Any) -> bool:
    return verb == "turn" and bool(args[2])


def _due(verb: str, args: tuple[Any, ...], answer: Any) -> bool:
    return verb == "due" and bool(answer)


def _bears_conflict(verb: str, args: tuple[Any, ...], answer: Any) -> bool:
    return verb == "land"


def counting(starts: list[str]) -> App:
    app = App("shop")

    @app.on("orders", key=Key.field("id"), mode=AtMostOnce())
    async def take(order: Order) -> None:
        starts.append(order.id)

    return app


async def _compared(sweep: Sweep, times: int) -> None:
    """As so many sweeps with ten seconds between them."""
    for _ in range(times):
        sweep._compared = float("-inf")
        await sweep.once()


async def _started_elsewhere(app: App, url: str, key: str) -> None:
    """Another worker gets the same message (its broker delivers it again), and runs it to its end."""
    source = ListSource()
    async with opened(app, url, source=source, migrate=False) as other:
        source.add("orders", Order(key))
        try:
            await other.until(lambda: source.settled, 2.0)
        except AssertionError:
            assert (await other.entry(key)).state is State.RUNNING  # ours: it waits for it


@pytest.mark.parametrize("wanted", [_claims, _due, _bears_conflict], ids=["claim", "due", "conflict"])
async def test_it_is_not_released_while_its_reply_is_on_its_way(wanted: Any, url: str) -> None:
    """A connection that stalls for longer than two comparisons, and the same message at another worker meanwhile.

    In the third case the reply is there, but a neighbour's conflict is written before what was won is started.

    Mutants: the sweep releases what this process may be told of yet; questions that are not noted (two starts of one key).
    """
    starts: list[str] = []
    app, reply = counting(starts), SlowReply(wanted)
    source = None if wanted is _due else ListSource()
    async with opened(app, url, source=source, wrap=reply.wrap) as process:
        if source is None:
            await process.publish("orders", [Order("k")])
        else:
            if wanted is _bears_conflict:
                source.add("orders", Order("neighbour"))
                await process.rest()
                reply.blind = True
                source.add("orders", Order("neighbour", amount=2))
            source.add("orders", Order("k"))
        await asyncio.wait_for(reply.away.wait(), 10)
        await _compared(process.running.runtime.sweep, 3)
        await _started_elsewhere(app, url, "k")
        reply.come.set()
        await process.until(lambda: starts.count("k"))
        await process.rest()
        assert starts.count("k") == 1


async def test_a_reply_that_never_comes_releases_what_it_would_have_told(url: str) -> None:
    """Mutant: a claim that was seen once is never released."""
    starts: list[str] = []
    app, weather = counting(starts), Weather()
    async with opened(app, url, wrap=weather.wrap) as process:
        # From the claim on, and not from an idle look that was under way when it was published.
        weather.lose = lambda verb, args: (
            verb == "due" and bool(weather.answer or weather.lost) and len(weather.lost) < 3
        )
        await process.publish("orders", [Order("k")])
        await process.until(lambda: len(weather.lost) == 3)
        assert [entry.state for entry in await process.entries()] == [State.RUNNING]
        assert not starts
        await process.until(lambda: _swept(process, starts))
        await process.rest()
        assert starts == ["k"]


async def _swept(process: Shop, starts: list[str]) -> bool:
    await _compared(process.running.runtime.sweep, 1)
    return bool(starts)


async def nothing() -> None:
    """In the stead of a part that the test does itself."""


async def test_what_is_owed_for_a_later_start_is_not_forgotten(url: str) -> None:
    """A call was released, and its caller has come again and run, before the sweep was told that the release is done.

    Mutant: the sweep forgets whatever is owed for that key (then the second start is released as if it had not been).
    """
    reply = SlowReply(lambda verb, args, answer: verb == "turn" and bool(args[1]))
    async with opened(counting([]), url, wrap=reply.wrap) as process:
        parts = process.running.runtime.parts
        first = Settle(b"k" * 16, 1, Kind.RELEASE)
        later = Settle(b"k" * 16, 2, Kind.COMPLETE)
        sweep = process.running.runtime.sweep
        settle_owed = sweep.settle_owed
        sweep.settle_owed = nothing  # type: ignore[method-assign]  # the process' own turn would settle it first, now and then
        parts.owed[first.identity] = first
        sweeping = asyncio.create_task(settle_owed())
        await asyncio.wait_for(reply.away.wait(), 10)
        parts.owed[later.identity] = later
        reply.come.set()
        await sweeping
        assert parts.owed == {later.identity: later}
        parts.owed.clear()
