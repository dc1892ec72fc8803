"""The lifespan through `Idempotency`: who opens the app, in which order, and what a mounted application is told."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route

from consumer import App, AtMostOnce, Key, RegistrationError
from consumer.http import Idempotency, single_tenant
from consumer.settings import Settings
from tests.http.guardkit import PATIENCE, Asgi, Bank, Client, Reply
from tests.services.base import free_port

MEMORY = Settings(store="memory:", grace=5.0)


class Server:
    """Runs a lifespan as servers do (uvicorn's `auto`)."""

    def __init__(self, asgi: Asgi) -> None:
        self.asgi = asgi
        self.told: list[str] = []
        self._said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._heard: asyncio.Queue[str] = asyncio.Queue()
        self._life: asyncio.Task[None] | None = None

    async def start(self) -> str:
        self._life = asyncio.create_task(self._run())
        return await self._tell("lifespan.startup")

    async def stop(self) -> str:
        told = await self._tell("lifespan.shutdown")
        async with asyncio.timeout(PATIENCE):
            assert self._life is not None
            await self._life
        return told

    async def fault(self) -> BaseException | None:
        assert self._life is not None
        await asyncio.wait({self._life}, timeout=PATIENCE)
        return self._life.exception()

    async def _run(self) -> None:
        await self.asgi({"type": "lifespan", "state": {}}, self._said.get, self._on)

    async def _on(self, message: dict[str, Any]) -> None:
        self._heard.put_nowait(message["type"])

    async def _tell(self, what: str) -> str:
        self._said.put_nowait({"type": what})
        async with asyncio.timeout(PATIENCE):
            return await self._heard.get()


class Lively(Bank):
    """A bank that takes part in the lifespan, and says what it saw."""

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.fails = fails
        self.guard: Idempotency | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await super().__call__(scope, receive, send)
            return
        for _ in range(2):
            kind = (await receive())["type"]
            assert self.guard is not None
            opened = self.guard._service.opened is not None
            self.seen.append(
                f"{kind} {'opened' if opened else 'closed'} {'finished' if self.finished.is_set() else ''}"
            )
            if self.fails:
                await send({"type": "lifespan.startup.failed", "message": "no"})
                raise OSError("no")
            await send({"type": f"{kind}.complete"})


def guard_of(asgi: Asgi, **given: Any) -> Idempotency:
    chosen: dict[str, Any] = {"app": App("shop"), "tenant": single_tenant, "settings": MEMORY} | given
    return Idempotency(asgi, **chosen)


# ----------------------------------------------------------------------------------------------------------- the order


async def test_the_app_is_open_before_the_application_starts_and_drained_before_it_stops():
    bank = Lively()
    bank.guard = guard_of(bank)
    server = Server(bank.guard)
    assert await server.start() == "lifespan.startup.complete"
    request = asyncio.create_task(Client(bank.guard).into(Reply(), "k1", path="/wait"))
    await bank.entered.wait()
    stopping = asyncio.create_task(server.stop())
    asked = asyncio.create_task(bank.guard._service._stop.wait())
    await asyncio.wait({stopping, asked}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    bank.leave.set()
    assert await stopping == "lifespan.shutdown.complete"
    await request
    assert bank.seen == ["lifespan.startup opened ", "lifespan.shutdown closed finished"]


async def test_an_application_without_lifespan_is_served_all_the_same():
    bank = Bank()  # its assertion refuses the scope
    guard = guard_of(bank)
    server = Server(guard)
    assert await server.start() == "lifespan.startup.complete"
    assert (await Client(guard).send("k1")).status == 201
    assert await server.stop() == "lifespan.shutdown.complete"
    assert guard._service.opened is None


async def test_an_application_that_returns_from_its_lifespan_at_once_is_served():
    async def quiet(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await Bank()(scope, receive, send)

    guard = guard_of(quiet)
    server = Server(guard)
    assert await server.start() == "lifespan.startup.complete"
    assert (await Client(guard).send("k1")).status == 201
    assert await server.stop() == "lifespan.shutdown.complete"


async def test_an_application_that_fails_to_start_closes_the_app():
    bank = Lively(fails=True)
    bank.guard = guard_of(bank)
    server = Server(bank.guard)
    assert await server.start() == "lifespan.startup.failed"
    assert isinstance(await server.fault(), OSError)
    assert bank.guard._service.opened is None


@pytest.mark.parametrize("kind", [Lively, Bank])
async def test_settings_that_cannot_work_end_the_start(kind):
    bank = kind()
    guard = guard_of(bank, settings=Settings(store="mysql://x"))
    bank.guard = guard
    server = Server(guard)
    assert await server.start() == "lifespan.startup.failed"
    assert "mysql" in str(await server.fault())


async def test_a_handler_of_the_same_name_is_refused_at_the_start():
    app = App("shop")

    @app.on("t", key=Key.record(), mode=AtMostOnce(), name="POST /payments")
    async def pay(body: bytes) -> None:
        pass

    guard = guard_of(Bank(), app=app, routes={"POST /payments": "required"})
    with pytest.raises(RegistrationError, match="'POST /payments' has the name of a handler"):
        async with guard.lifespan():
            pass


async def test_other_scopes_pass():
    seen: list[str] = []

    async def sockets(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    await guard_of(sockets)({"type": "websocket"}, None, None)  # type: ignore[arg-type]
    assert seen == ["websocket"]


async def test_without_a_lifespan_a_key_is_refused_with_the_mend(caplog):
    bank = Bank()
    client = Client(guard_of(bank))
    reply = await client.send("k1")
    assert (reply.status, reply.code, bank.runs) == (503, "store-unavailable", 0)
    assert b"wrap the outer application" in reply.body
    assert "wrap the outer application" in caplog.text
    assert (await client.send()).status == 201


# ----------------------------------------------------------------------------------------------------------- Starlette


class Api:
    """A Starlette application that uses what Starlette has."""

    def __init__(self) -> None:
        self.runs = 0
        self.later: list[str] = []
        self.leave = asyncio.Event()

    async def pay(self, request: StarletteRequest) -> JSONResponse:
        self.runs += 1
        body = await request.json()
        if body.get("invalid"):
            raise HTTPException(422, "invalid")
        if body.get("broken"):
            raise ZeroDivisionError
        response = JSONResponse({"run": self.runs}, 201, background=BackgroundTask(self._later))
        response.set_cookie("session", "1")
        return response

    async def stream(self, request: StarletteRequest) -> StreamingResponse:
        self.runs += 1

        async def parts():
            for number in range(3):
                yield f"{number}\n"

        return StreamingResponse(parts())

    async def call(self, request: StarletteRequest) -> PlainTextResponse:
        return PlainTextResponse(await request.state.running.call(double, 21))

    async def _later(self) -> None:
        self.later.append("done")

    def starlette(self, **given: Any) -> Starlette:
        routes = [
            Route("/payments", self.pay, methods=["POST"]),
            Route("/stream", self.stream, methods=["POST"]),
            Route("/call", self.call),
        ]
        return Starlette(routes=routes, **given)


def written(number: int) -> str:
    return str(number)


async def double(number: int) -> str:
    return str(number * 2)


async def test_starlette_add_middleware():
    api, app = Api(), App("shop")
    app.on("double", key=written, mode=AtMostOnce())(double)
    made = api.starlette()
    made.add_middleware(
        Idempotency, app=app, tenant=single_tenant, routes={"POST /payments": "required"}, settings=MEMORY
    )
    server = Server(made)
    assert await server.start() == "lifespan.startup.complete"
    client = Client(made)  # type: ignore[arg-type]
    assert (await client.send()).code == "key-missing"
    first, second = await client.send("k1"), await client.send("k1")
    assert first.body == second.body == b'{"run":1}'
    assert "set-cookie" in first.headers
    assert second.replayed
    assert "set-cookie" not in second.headers
    assert api.later == ["done"]
    assert (await client.send("k2", b'{"invalid":1}')).status == 422
    assert (await client.send("k2", b"{}")).status == 201
    assert [(await client.send("k3", path="/stream")).body for _ in range(2)] == [b"0\n1\n2\n"] * 2
    with pytest.raises(ZeroDivisionError):
        await client.send("k4", b'{"broken":1}')
    assert (await client.send("k4", b'{"broken":1}')).code == "outcome-unknown"
    assert (await client.send(method="GET", path="/call")).body == b"42"
    assert await server.stop() == "lifespan.shutdown.complete"


async def test_an_exception_that_is_answered_with_500_inside_is_in_doubt_too():
    """Around the whole of Starlette the exception comes with a response; as its middleware, without."""
    guard = guard_of(Api().starlette())
    reply = Reply()
    async with guard.lifespan():
        with pytest.raises(ZeroDivisionError):
            await Client(guard).into(reply, "k1", b'{"broken":1}')
        assert (reply.status, reply.body) == (500, b"Internal Server Error")
        assert (await Client(guard).send("k1", b'{"broken":1}')).code == "outcome-unknown"


async def test_middleware_around_it_sees_what_the_application_writes_into_its_scope():
    guard = guard_of(Api().starlette())
    seen: list[Any] = []

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        scope["extensions"] = {"http.response.pathsend": {}, "tls": {}}
        await guard(scope, receive, send)
        seen.append((scope["route"].path, scope["extensions"]))

    async with guard.lifespan():
        await Client(outer).send("k1")  # type: ignore[arg-type]
    assert seen == [("/payments", {"tls": {}})]


async def test_a_guarded_application_mounted_in_another_needs_its_lifespan():
    api = Api()
    guard = guard_of(api.starlette(), routes={"POST /payments": "required"})
    outer = Starlette(routes=[Mount("/v1", guard)])
    client = Client(outer)  # type: ignore[arg-type]
    assert (await client.send("k1", path="/v1/payments")).code == "store-unavailable"
    led = Starlette(routes=[Mount("/v1", guard)], lifespan=guard.lifespan)
    server = Server(led)
    assert await server.start() == "lifespan.startup.complete"
    client = Client(led)  # type: ignore[arg-type]
    assert (await client.send("k1", path="/v1/payments")).status == 201
    assert (await client.send("k1", path="/v1/payments")).replayed
    assert await server.stop() == "lifespan.shutdown.complete"


# ----------------------------------------------------------------------------------------------------------- observed


async def test_its_routes_are_counted_and_the_health_port_answers():
    port = free_port()
    settings = Settings(store="memory:", grace=5.0, health_port=port)
    guard = guard_of(Bank(), settings=settings, routes={"POST /payments": "required"})
    async with guard.lifespan(), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as health:
        client = Client(guard)
        for _ in range(3):
            await client.send("k1")
        assert (await health.get("/livez")).status_code == 200
        metrics = (await health.get("/metrics")).text
    counted = [line for line in metrics.splitlines() if 'handler="POST /payments"' in line]
    assert any('outcome="done"' in line and line.endswith(" 1.0") for line in counted), counted
