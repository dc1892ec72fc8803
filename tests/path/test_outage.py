"""The store is away, or its replies are lost: nothing is acknowledged, lost or doubled, and it goes on by itself."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from consumer import App, AtLeastOnce, AtMostOnce, Backoff, Context, Key, Transactional, Tx
from consumer.entry import Kind, State
from consumer.errors import StoreUnavailable
from tests.path.kit import Order, Shop, opened
from tests.path.listsource import ListSource
from tests.path.weather import Weather

KEYS = [f"k{number:02}" for number in range(30)]
MODES = [Transactional(retry=Backoff(5, first=0)), AtMostOnce(), AtLeastOnce(retry=Backoff(5, first=0))]


class Ledger:
    """An app that remembers its starts."""

    def __init__(self, mode: Any) -> None:
        self.app = App("shop")
        self.starts: Counter[str] = Counter()
        self.in_transaction = isinstance(mode, Transactional)
        on = self.app.on("orders", key=Key.field("id"), mode=mode)

        async def act(order: Order, ctx: Context) -> str:
            self.starts[order.id] += 1
            ctx.publish("effects", order.id.encode())
            return order.id

        self.take: Any
        if self.in_transaction:

            @on
            async def inside(order: Order, ctx: Context, tx: Tx) -> str:
                await tx.execute("insert into effects (id) values ($1)", order.id)
                return await act(order, ctx)

            self.take = inside
        else:

            @on
            async def outside(order: Order, ctx: Context) -> str:
                return await act(order, ctx)

            self.take = outside

    async def expect(self, process: Shop, keys: list[str]) -> None:
        """Everything is done once, in the database, in the outbox and by the handler (if its mode says so)."""
        assert await process.states() == dict.fromkeys(keys, "done")
        assert {entry.attempts for entry in await process.entries()} == {1}
        assert Counter(message.value.decode() for message in process.sink.published) == Counter(keys)
        if self.in_transaction:
            assert await process.effects() == keys
        else:
            assert self.starts == Counter(keys)


@pytest.fixture(params=MODES, ids=lambda mode: type(mode).__name__)
def ledger(request: pytest.FixtureRequest) -> Ledger:
    return Ledger(request.param)


async def test_the_store_is_away_for_a_while(ledger: Ledger, url: str) -> None:
    weather, source = Weather(), ListSource()
    async with opened(ledger.app, url, source=source, wrap=weather.wrap, reconnect=False) as process:
        for key in KEYS[:10]:
            source.add("orders", Order(key))
        await process.rest()
        weather.down = True
        for key in KEYS[10:]:
            source.add("orders", Order(key))
        refused = weather.refused
        while weather.refused < refused + 6:
            await weather.next_refusal()
        assert source.committed("orders") == 10, "nothing is acknowledged"
        assert sum(ledger.starts.values()) == 10, "and nothing was started"
        weather.down = False
        await process.rest()
        await ledger.expect(process, KEYS)


@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize("what", ["claims", "settles"])
@pytest.mark.parametrize("ledger", MODES[1:], indirect=True, ids=lambda mode: type(mode).__name__)
async def test_the_reply_of_a_turn_is_lost(what: str, times: int, ledger: Ledger, url: str) -> None:
    """It has happened, and nobody was told: asked again (more often than one turn does), it is answered as before.

    Mutant: claim without nonce (`claim_of`: another one in every repetition; or `judge` that knows no nonce).
    """
    weather, source = Weather(), ListSource()

    def lose(verb: str, args: tuple[Any, ...]) -> bool:
        if verb != "turn" or len(weather.lost) >= times:
            return False
        return bool(args[2]) if what == "claims" else any(s.kind is Kind.COMPLETE for s in args[1])

    weather.lose = lose
    async with opened(ledger.app, url, source=source, wrap=weather.wrap, slots=8) as process:
        for key in KEYS:
            source.add("orders", Order(key))
        await process.rest()
        assert len(weather.lost) == times
        await ledger.expect(process, KEYS)


@pytest.mark.parametrize("happened", [True, False])
async def test_the_reply_to_commit_is_lost(happened: bool, url: str) -> None:
    """The outcome is asked for on another connection; handlers never run again on a guess.

    Mutant: `seal_and_commit` that takes `CommitUnknown` for a commit.
    """
    ledger = Ledger(MODES[0])
    weather, source = Weather(), ListSource()
    if happened:
        weather.lose = lambda verb, args: verb == "commit" and not weather.lost
    else:
        weather.cut = 1
    async with opened(ledger.app, url, source=source, wrap=weather.wrap) as process:
        for key in KEYS:
            source.add("orders", Order(key))
        await process.rest()
        await ledger.expect(process, KEYS)
    if happened:
        assert weather.lost == ["commit"]
        assert ledger.starts == Counter(KEYS), "it was committed: nobody ran again"
    else:
        assert weather.cut == 0
        assert max(ledger.starts.values()) == 2


async def test_the_reply_of_due_is_lost(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries that the store has claimed for this worker, which knows nothing of them: given back, uncounted."""
    monkeypatch.setattr("consumer.worker.sweep.COMPARE_EVERY", 0.1)
    ledger = Ledger(AtMostOnce())
    weather = Weather()
    weather.lose = lambda verb, args: verb == "due" and not weather.lost and bool(weather.calls)
    async with opened(ledger.app, url, wrap=weather.wrap, consume=False) as process:
        await process.publish("orders", [Order(key) for key in KEYS])
    async with opened(ledger.app, url, wrap=weather.wrap, migrate=False, worker_ttl=1) as process:
        await process.until(lambda: weather.lost)
        assert await process.entries(State.RUNNING)
        assert not ledger.starts
        await process.rest()
        await ledger.expect(process, KEYS)


async def test_a_call_whose_settle_is_not_answered(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has run. Its caller is told to ask again, and must get this attempt's result, not another attempt.

    Mutant: `direct.call` without `parts.owed` (then its claim is released as one that was never started).
    """
    monkeypatch.setattr("consumer.worker.sweep.COMPARE_EVERY", 0.1)
    ledger = Ledger(AtMostOnce())
    weather = Weather()

    def away_once_it_has_run(verb: str, args: tuple[Any, ...]) -> bool:
        weather.down = weather.down or (verb == "turn" and bool(args[2]))
        return False

    weather.lose = away_once_it_has_run
    # nobody beats here (no reconnect), so the time-to-live must outlast the test
    async with opened(ledger.app, url, wrap=weather.wrap, worker_ttl=15) as process:
        with pytest.raises(StoreUnavailable):
            await process.running.call(ledger.take, Order("a"))
        weather.lose = lambda verb, args: False
        weather.down = False
        await process.until(lambda: sum(verb == "claims" for verb, _ in weather.calls) >= 3)
        assert await process.running.call(ledger.take, Order("a")) == "a"
        assert (await process.entry("a")).state is State.DONE
    assert ledger.starts == Counter(["a"])


async def test_the_process_ends_while_a_settle_is_owed(url: str) -> None:
    """Then nobody knows the outcome: the worker is not closed cleanly, and its next of kin finds the key in doubt."""
    ledger = Ledger(AtMostOnce())
    weather = Weather()

    def away_once_it_has_run(verb: str, args: tuple[Any, ...]) -> bool:
        weather.down = weather.down or (verb == "turn" and bool(args[2]))
        return False

    weather.lose = away_once_it_has_run
    async with opened(ledger.app, url, wrap=weather.wrap, worker_ttl=1) as process:
        with pytest.raises(StoreUnavailable):
            await process.running.call(ledger.take, Order("a"))
    async with opened(ledger.app, url, migrate=False, worker_ttl=1) as process:
        await process.rest()
        entry = await process.entry("a")
    assert (entry.state, entry.message is not None) == (State.IN_DOUBT, True)
    assert ledger.starts == Counter(["a"])
