"""How long resources live, what they see, and what they cannot hide."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest

from consumer import AtMostOnce, Context, Handlers, Key, Message, Transactional, Tx
from consumer.declare.resources import ProcessResources, attempt_resources
from consumer.declare.tx import Writes


class Psp: ...


class Bank: ...


class Session:
    def __init__(self, *made_of: Any) -> None:
        self.made_of = made_of


class Audit: ...


CTX = Context(identity=bytes(16), key=b"k", tenant="public", token=1, attempt=1, message=Message("t", b"{}"))
TX = Tx(None, Writes())  # type: ignore[arg-type]


def shop(log: list[str]) -> Handlers:
    handlers = Handlers()

    @handlers.resource
    async def psp() -> AsyncIterator[Psp]:
        log.append("open psp")
        try:
            yield Psp()
        finally:
            log.append("close psp")

    @handlers.resource
    async def bank() -> AsyncGenerator[Bank, None]:
        log.append("open bank")
        try:
            yield Bank()
        finally:
            log.append("close bank")

    @handlers.resource
    async def session(tx: Tx, *, ctx: Context) -> AsyncIterator[Session]:
        log.append("open session")
        try:
            yield Session(tx, ctx)
        except BaseException as fault:
            log.append(f"session saw {type(fault).__name__}")
            raise
        finally:
            log.append("close session")

    @handlers.resource
    async def audit(ctx: Context) -> AsyncIterator[Audit]:
        log.append("open audit")
        try:
            yield Audit()
        except Exception as fault:  # noqa: BLE001 - swallows on purpose
            log.append(f"audit swallowed {type(fault).__name__}")

    return handlers


async def test_a_process_resource_is_opened_once_and_closed_in_reverse_order():
    log: list[str] = []
    async with ProcessResources(shop(log).resources) as resources:
        await resources.open_all([Psp, Bank, Session])
        await resources.open_all([Psp])
        assert isinstance(resources.get(Psp), Psp)
        with pytest.raises(KeyError):
            resources.get(Session)
        assert log == ["open psp", "open bank"]
    assert log == ["open psp", "open bank", "close bank", "close psp"]


async def test_only_what_is_asked_for_is_opened():
    log: list[str] = []
    async with ProcessResources(shop(log).resources) as resources:
        await resources.open_all([Bank])
    assert log == ["open bank", "close bank"]


async def test_a_resource_that_nobody_yields_is_a_fault_of_the_program():
    async with ProcessResources(Handlers().resources) as resources:
        with pytest.raises(KeyError, match="no resource yields Psp"):
            await resources.open_all([Psp])


async def test_a_given_value_stands_in_for_a_resource_of_either_kind():
    log: list[str] = []
    fake, session = Psp(), Session()
    async with ProcessResources(shop(log).resources, {Psp: fake, Session: session}) as resources:
        await resources.open_all([Psp, Session])
        async with attempt_resources(resources, (Psp, Session), CTX, None) as found:
            assert (found[Psp], found[Session]) == (fake, session)
    assert log == []


async def test_a_resource_that_does_not_open_is_named_and_the_open_ones_are_closed():
    log: list[str] = []
    handlers = shop(log)

    @handlers.resource
    async def broken() -> AsyncIterator[str]:
        if log:
            raise OSError("no route")
        yield ""

    with pytest.raises(OSError, match="no route") as caught:
        async with ProcessResources(handlers.resources) as resources:
            await resources.open_all([Psp, str])
    assert log == ["open psp", "close psp"]
    assert any("broken (test_declare_resources.py" in note for note in caught.value.__notes__)


async def test_an_attempt_has_its_own_and_the_process_resources():
    log: list[str] = []
    async with ProcessResources(shop(log).resources) as resources:
        await resources.open_all([Psp, Session])
        async with attempt_resources(resources, (Psp, Session), CTX, TX) as found:
            assert found[Psp] is resources.get(Psp)
            assert found[Session].made_of == (TX, CTX)
            first = found[Session]
        assert log == ["open psp", "open session", "close session"]
        async with attempt_resources(resources, (Session,), CTX, TX) as found:
            assert found[Session] is not first
        with pytest.raises(KeyError):
            resources.get(Session)


async def test_a_handler_without_attempt_resources_gets_the_process_ones_as_they_are():
    async with ProcessResources(shop([]).resources) as resources:
        await resources.open_all([Psp])
        async with attempt_resources(resources, (Psp,), CTX, None) as found:
            assert found is resources.opened


async def test_every_resource_sees_the_handler_s_exception_and_none_can_swallow_it():
    log: list[str] = []
    fault = ValueError("no")
    async with ProcessResources(shop(log).resources) as resources:
        with pytest.raises(ValueError, match="no") as caught:
            async with attempt_resources(resources, (Session, Audit), CTX, TX):
                raise fault
    assert caught.value is fault
    assert log == [
        "open session",
        "open audit",
        "audit swallowed ValueError",
        "session saw ValueError",
        "close session",
    ]


async def test_an_attempt_resource_that_does_not_open_closes_those_before_it():
    log: list[str] = []
    handlers = shop(log)

    @handlers.resource
    async def broken(ctx: Context) -> AsyncIterator[str]:
        if log:
            raise OSError("no route")
        yield ""

    async with ProcessResources(handlers.resources) as resources:
        with pytest.raises(OSError, match="no route"):
            async with attempt_resources(resources, (Session, str), CTX, TX):
                pytest.fail("the handler ran without its resource")
    assert log == ["open session", "session saw OSError", "close session"]


async def test_a_clean_up_that_fails_fails_the_attempt():
    handlers = Handlers()

    @handlers.resource
    async def session(ctx: Context) -> AsyncIterator[Session]:
        yield Session()
        raise OSError("flush failed")

    async with ProcessResources(handlers.resources) as resources:
        with pytest.raises(OSError, match="flush failed"):
            async with attempt_resources(resources, (Session,), CTX, None):
                pass


def test_check_knows_what_each_handler_can_have():
    handlers = shop([])

    @handlers.on("a", key=Key.record(), mode=Transactional())
    async def one(payload: bytes, session: Session, psp: Psp) -> None: ...

    @handlers.on("b", key=Key.record(), mode=AtMostOnce())
    async def two(payload: bytes, audit: Audit) -> None: ...

    assert handlers.problems() == []

    @handlers.on("c", key=Key.record(), mode=AtMostOnce())
    async def three(payload: bytes, session: Session) -> None: ...

    assert len(handlers.problems()) == 1
    assert handlers.problems(given={Session: Session()}) == []


def test_a_resource_of_an_included_registry_serves_all():
    app, other = Handlers(), shop([])

    @app.on("a", key=Key.record(), mode=AtMostOnce())
    async def one(payload: bytes, psp: Psp) -> None: ...

    assert app.problems() != []
    app.include(other)
    app.check()
