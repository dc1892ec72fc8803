"""The store as an operator's verb reaches it: opened within a bounded time, one app of it chosen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from consumer.cli.exits import PATIENCE, Code, Stop, patiently
from consumer.cli.options import one_shot_settings, outlasting
from consumer.cli.output import candidates
from consumer.entry import Entry
from consumer.errors import StoreUnavailable
from consumer.operate.inspect import Choice, choose_app
from consumer.operate.shown import row_of
from consumer.ports.operator import Operator
from consumer.settings import redacted
from consumer.stores import open_store

__all__ = ["ask", "chosen_app", "the_entry"]

T = TypeVar("T")


def ask(
    store: str | None,
    config: str | None,
    work: Callable[[Operator], Awaitable[T]],
    *,
    patience: float | None = PATIENCE,
) -> T:
    """Open the store, do `work` on its operator's port, and close it.

    Args:
        store: the URL, `None`: as the settings say.
        config: the settings' file.
        work: what is asked.
        patience: seconds for `work`; `None`: as long as it takes (a long list, a purge).

    Raises:
        SettingsError: the URL is wrong, or the tables are not there.
        StoreUnavailable: nobody answers in time; a change may have happened.
    """
    url = outlasting(one_shot_settings(config, store=store).store, "look at")

    async def asked() -> T:
        # No app is meant yet: the operator's verbs are told which one, every time.
        opened = open_store(url, "")
        try:
            await patiently(redacted(url), opened.open())
            try:
                async with asyncio.timeout(patience):
                    return await work(opened.operator)
            except TimeoutError:
                raise StoreUnavailable(
                    f"{redacted(url)} does not answer within {patience:g} s; what was asked may have happened"
                ) from None
        finally:
            await opened.close()

    return asyncio.run(asked())


async def chosen_app(operator: Operator, wanted: str | None) -> str | None:
    """Return the app that is meant; `None` where the store holds none yet.

    Raises:
        Stop: the store holds several and none was named (4), or not the one that was (3).
    """
    choice = await choose_app(operator, wanted)
    if choice.fault == "ambiguous":
        raise Stop(
            Code.AMBIGUOUS, f"the store holds several apps; say --app with one of: {', '.join(choice.known)}"
        )
    if choice.fault:
        there = f"there are: {', '.join(choice.known)}" if choice.known else "it holds none yet"
        raise Stop(Code.NOT_FOUND, f"no app {wanted!r} in this store; {there}")
    return choice.name


def the_entry(choice: Choice, key: str) -> Entry:
    """Return the one entry that is meant.

    Raises:
        Stop: there is none (3), or there are several (4; they are named).
    """
    if choice.entry is not None:
        return choice.entry
    shown = key.encode(errors="surrogateescape").decode(errors="backslashreplace")
    if not choice.candidates:
        raise Stop(Code.NOT_FOUND, f"no entry has the key {shown!r}")
    raise Stop(
        Code.AMBIGUOUS,
        f"{len(choice.candidates)} entries have the key {shown!r}; narrow it by --handler or --tenant, or give the id:\n"
        + candidates([row_of(entry) for entry in choice.candidates]),
    )
