"""In applications of others: the service mounted in FastAPI and Litestar, and `Idempotency` around both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest
from fastapi import FastAPI
from fastapi import Request as ApiRequest
from litestar import Litestar, asgi, get, post
from litestar.params import JSONBody
from litestar.types import Receive, Scope, Send
from msgspec import Struct
from pydantic import BaseModel

from consumer import App, Key, Transactional, Tx
from consumer.entry import State
from consumer.http import Idempotency, Policy, Request, documented, single_tenant
from consumer.http.service import Service
from consumer.settings import Settings
from tests.http.shopkit import PATIENCE, code_of, migrated, replayed

ROUTES = {"POST /transfers": "required"}
TRANSFER = {"amount": 5, "to": "a-1"}


@asynccontextmanager
async def served(application: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Run an application's lifespan as a server does, and speak HTTP to it."""
    said: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def told(phase: str) -> None:
        said.put_nowait({"type": f"lifespan.{phase}"})
        async with asyncio.timeout(PATIENCE):
            answer = await heard.get()
        assert answer["type"] == f"lifespan.{phase}.complete", answer

    async def with_state(scope: Any, receive: Any, send: Any) -> None:
        await application(scope | {"state": dict(state)}, receive, send)

    state: dict[str, Any] = {}
    life = asyncio.create_task(application({"type": "lifespan", "state": state}, said.get, heard.put))
    await told("startup")
    transport = httpx.ASGITransport(app=with_state, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://bank.test") as client:
        yield client
    await told("shutdown")
    await life


async def send(
    client: httpx.AsyncClient, path: str, key: str | None = "k-1", body: dict[str, Any] = TRANSFER
) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    async with asyncio.timeout(PATIENCE):
        return await client.post(path, json=body, headers=headers)


# --------------------------------------------------------------------------------------------- the service, mounted


class NewTransfer(Struct):
    amount: int
    to: str


class Transfer(Struct):
    id: str
    amount: int
    to: str


def bank() -> App:
    app = App("bank")
    app.schema(sqlite=["create table if not exists transfers (id text, amount integer)"])

    @app.on("transfers", key=Key.field("id"), mode=Transactional(), same=("amount", "to"))
    async def transfer(wish: Transfer, tx: Tx) -> Transfer:
        await tx.execute("insert into transfers values ($1, $2)", wish.id, wish.amount)
        return wish

    def from_http(body: NewTransfer, request: Request) -> Transfer:
        return Transfer(request.key, body.amount, body.to)

    app.endpoint("POST", "/transfers", transfer, translate=from_http, tenant=single_tenant, status=201)
    return app


def in_fastapi(service: Service) -> Any:
    """As docs/http.md says."""
    api = FastAPI(lifespan=service.lifespan)

    @api.get("/own")
    async def own() -> str:
        return "own"

    api.mount("/v1", service)
    return api


def in_litestar(service: Service) -> Any:
    """As docs/http.md says."""

    @get("/own", sync_to_thread=False)
    def own() -> str:
        return '"own"'

    @asgi("/v1", is_mount=True, copy_scope=True)
    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        scope["path"] = scope["raw_path"].decode().removeprefix("/v1")
        await service(scope, receive, send)  # type: ignore[arg-type]  # Litestar's scopes are TypedDicts of its own

    return Litestar([own, mounted], lifespan=[service.lifespan])


async def test_an_application_of_others_opens_the_app_for_its_own_routes(tmp_path):
    """`FastAPI(lifespan=app.lifespan)`: what a route publishes is durable, what it calls runs once."""
    app = bank()
    settings = Settings(store=await migrated(app, f"sqlite:///{tmp_path}/bank.db"), grace=5.0)
    api = FastAPI(lifespan=lambda outer: app.lifespan(outer, settings=settings))
    [transfer] = app.handlers.declared

    @api.post("/publish/{name}")
    async def publish(name: str, request: ApiRequest) -> None:
        await request.state.running.publish("transfers", Transfer(name, 1, "a"))

    @api.post("/call/{name}")
    async def call(name: str, request: ApiRequest) -> Any:
        return msgspec.to_builtins(
            await request.state.running.call(transfer.function, Transfer(name, 1, "a"))
        )

    async with served(api) as client:
        assert (await client.post("/publish/t-1")).status_code == 200
        answers = [(await client.post("/call/t-2")).json() for _ in range(2)]
    assert answers == [{"id": "t-2", "amount": 1, "to": "a"}] * 2
    async with app.open(settings) as running:
        states = {entry.key: entry.state for entry in await running.runtime.store.operator.entries()}
        rows = await running.fetch("select id from transfers")
    assert states == {b"t-1": State.RECEIVED, b"t-2": State.DONE}
    assert [row[0] for row in rows] == ["t-2"]


@pytest.mark.parametrize("mounted_in", [in_fastapi, in_litestar])
async def test_the_service_works_mounted_and_lives_as_long_as_the_outer_application(mounted_in, tmp_path):
    app = bank()
    service = app.asgi(Settings(store=await migrated(app, f"sqlite:///{tmp_path}/bank.db"), grace=5.0))
    outer = mounted_in(service)
    async with served(outer) as client:
        assert (await client.get("/own")).text == '"own"'
        assert (await client.get("/v1/readyz")).status_code == 200
        assert "/transfers" in (await client.get("/v1/openapi.json")).json()["paths"]
        first = await send(client, "/v1/transfers")
        assert (first.status_code, first.json()) == (201, {"id": "k-1", **TRANSFER})
        assert not replayed(first)
        again = await send(client, "/v1/transfers")
        assert (again.status_code, again.content, replayed(again)) == (201, first.content, True)
        other = await send(client, "/v1/transfers", body=TRANSFER | {"amount": 6})
        assert (other.status_code, code_of(other)) == (422, "payload-mismatch")
        missing = await send(client, "/v1/transfers", key=None)
        assert (missing.status_code, code_of(missing)) == (400, "key-missing")
        opened: Any = service.opened
        rows = await opened.fetch("select id, amount from transfers")
        assert [tuple(row) for row in rows] == [("k-1", 5)]
    assert service.opened is None


async def test_a_mounted_service_whose_lifespan_nobody_runs_says_so(caplog):
    api = FastAPI()
    api.mount("/v1", bank().asgi(Settings(store="sqlite:///never-opened.db")))
    async with served(api) as client:
        reply = await send(client, "/v1/transfers")
    assert (reply.status_code, code_of(reply)) == (503, "store-unavailable")
    assert "FastAPI(lifespan=service.lifespan)" in caplog.text


# --------------------------------------------------------------------------------------------------- the middleware


class Wish(BaseModel):
    amount: int
    to: str


class Book:
    """What an application did, and whether its own lifespan runs."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.lives = False

    @asynccontextmanager
    async def lifespan(self, _: Any) -> AsyncIterator[None]:
        self.lives = True
        yield
        self.lives = False

    def take(self, amount: int) -> dict[str, int]:
        self.taken.append(amount)
        if amount < 0:
            raise OSError("nobody knows what has happened")
        return {"number": len(self.taken), "amount": amount}


def _settings() -> dict[str, Any]:
    """Of `Idempotency`."""
    settings = Settings(store="memory:", grace=5.0)
    return {"app": App("bank"), "tenant": single_tenant, "routes": ROUTES, "settings": settings}


def _fastapi(book: Book) -> FastAPI:
    api = FastAPI(lifespan=book.lifespan)

    @api.post("/transfers", status_code=201)
    async def transfer(wish: Wish) -> dict[str, int]:
        return book.take(wish.amount)

    return api


def fastapi_added(book: Book, **given: Any) -> Any:
    api = _fastapi(book)
    api.add_middleware(Idempotency, **_settings(), **given)
    return api


def fastapi_wrapped(book: Book, **given: Any) -> Any:
    return Idempotency(_fastapi(book), **_settings(), **given)


def fastapi_mounted(book: Book, **given: Any) -> Any:
    """The guarded application within another, which runs both lifespans."""
    guarded = Idempotency(_fastapi(book), **_settings(), **given)

    @asynccontextmanager
    async def both(outer: Any) -> AsyncIterator[None]:
        async with guarded.lifespan(), book.lifespan(outer):
            yield

    outer = FastAPI(lifespan=both)
    outer.mount("/", guarded)
    return outer


def litestar_wrapped(book: Book, **given: Any) -> Any:
    @post("/transfers")
    async def transfer(data: JSONBody[Wish]) -> dict[str, int]:
        return book.take(data.amount)

    application: Any = Litestar([transfer], lifespan=[book.lifespan])
    return Idempotency(application, **_settings(), **given)


Guarded = Callable[..., Any]
EVERY = [fastapi_added, fastapi_wrapped, fastapi_mounted, litestar_wrapped]


@pytest.mark.parametrize("guarded", EVERY)
async def test_a_guarded_request_runs_once_and_is_replayed_byte_for_byte(guarded: Guarded):
    book = Book()
    async with served(guarded(book)) as client:
        assert book.lives
        first = await send(client, "/transfers")
        assert (first.status_code, first.json()) == (201, {"number": 1, "amount": 5})
        assert not replayed(first)
        again = await send(client, "/transfers")
        assert (again.status_code, again.content, replayed(again)) == (201, first.content, True)
        assert again.headers["content-type"] == first.headers["content-type"]
        other = await send(client, "/transfers", body=TRANSFER | {"amount": 6})
        assert (other.status_code, code_of(other)) == (422, "payload-mismatch")
        missing = await send(client, "/transfers", key=None)
        assert (missing.status_code, code_of(missing)) == (400, "key-missing")
        assert (await send(client, "/transfers", "k-2")).json() == {"number": 2, "amount": 5}
    assert book.taken == [5, 5]
    assert not book.lives


@pytest.mark.parametrize("guarded", EVERY)
async def test_what_the_framework_finds_invalid_burns_no_key(guarded: Guarded):
    """422 is FastAPI's word for it, 400 Litestar's."""
    book = Book()
    async with served(guarded(book)) as client:
        invalid = await send(client, "/transfers", body={"amount": "much", "to": "a-1"})
        assert invalid.status_code in {400, 422}
        assert not replayed(invalid)
        assert invalid.headers["content-type"] != "application/problem+json"
        assert (await send(client, "/transfers")).status_code == 201
    assert book.taken == [5]


@pytest.mark.parametrize("guarded", [fastapi_added, fastapi_wrapped, fastapi_mounted])
async def test_an_exception_in_fastapi_leaves_the_key_in_doubt(guarded: Guarded):
    book = Book()
    async with served(guarded(book)) as client:
        raised = await send(client, "/transfers", body=TRANSFER | {"amount": -1})
        assert raised.status_code >= 409
        again = await send(client, "/transfers", body=TRANSFER | {"amount": -1})
        assert (again.status_code, code_of(again)) == (409, "outcome-unknown")
    assert book.taken == [-1]


@pytest.mark.parametrize(
    ("given", "told"),
    [({}, 500), ({"policy": Policy(doubtful={500})}, 409)],
    ids=["stored", "doubtful"],
)
async def test_an_exception_in_litestar_is_a_response_and_the_policy_decides(
    given: dict[str, Any], told: int
):
    book = Book()
    async with served(litestar_wrapped(book, **given)) as client:
        first = await send(client, "/transfers", body=TRANSFER | {"amount": -1})
        again = await send(client, "/transfers", body=TRANSFER | {"amount": -1})
        assert again.status_code == told
        assert replayed(again) is (told == 500)
        assert told == 409 or again.content == first.content
    assert book.taken == [-1]


async def test_fastapis_own_document_shows_the_key_the_replay_and_the_problems():
    api = fastapi_added(Book())
    documented(api, ROUTES)
    async with served(api) as client:
        operation = (await client.get("/openapi.json")).json()["paths"]["/transfers"]["post"]
    [key] = [each for each in operation["parameters"] if each["in"] == "header"]
    assert (key["name"], key["required"]) == ("Idempotency-Key", True)
    assert "Idempotent-Replayed" in operation["responses"]["201"]["headers"]
    assert {"400", "409", "422", "503"} <= operation["responses"].keys()
    unprocessable = operation["responses"]["422"]
    assert "`payload-mismatch`" in unprocessable["description"]
    assert unprocessable["content"].keys() == {"application/json", "application/problem+json"}
