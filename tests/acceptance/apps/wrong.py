"""Declarations that must be refused before anything is consumed; `WRONG` in the environment says which."""

import os

from msgspec import Struct

from consumer import App, AtMostOnce, Context, Key, Transactional, Tx

app = App("wrong")


class Thing(Struct):
    id: str


def declare(which: str) -> None:  # noqa: C901 - a list, one after the other
    """Register the one that was asked for."""
    if which == "tx":

        @app.on("things", key=Key.field("id"), mode=AtMostOnce())
        async def asks_for_tx(thing: Thing, tx: Tx) -> None: ...

    elif which == "sync":

        @app.on("things", key=Key.field("id"), mode=Transactional())  # type: ignore[type-var]
        def synchronous(thing: Thing) -> None: ...

    elif which == "key":

        @app.on("things", key=Key.field("idd"), mode=Transactional())
        async def misspelt(thing: Thing) -> None: ...

    elif which == "unannotated":

        @app.on("things", key=Key.field("id"), mode=Transactional())
        async def unannotated(thing) -> None: ...

    elif which == "resource":

        @app.on("things", key=Key.field("id"), mode=Transactional())
        async def asks_for_dict(thing: Thing, ctx: Context, cache: dict[str, int]) -> None: ...

    elif which == "nothing":

        @app.on("things", key=Key.field("id"), mode=Transactional())
        async def takes_nothing() -> None: ...


declare(os.environ.get("WRONG", ""))
