"""What a caller is told of every way in which an attempt can end, and while it has not ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec import Struct

from consumer import App, AtLeastOnce, AtMostOnce, Context, Key, Reject, Retry, Transactional, Tx
from consumer.http import BadRequest, Request, Unauthenticated, single_tenant
from consumer.operate.resolve import resolve
from tests.http.shopkit import Site, code_of, migrated, replayed, serving, until


class Work(Struct):
    id: str
    do: str = "return"


class Done(Struct):
    id: str
    run: int


class Script:
    """What the handlers do, and what they have done."""

    def __init__(self) -> None:
        self.runs = 0
        self.entered = asyncio.Event()
        self.leave = asyncio.Event()
        self.cancelled = False

    async def run(self, work: Work) -> Done:
        self.runs += 1
        match work.do:
            case "hold":
                self.entered.set()
                try:
                    await self.leave.wait()
                except asyncio.CancelledError:
                    self.cancelled = True
                    raise
            case "retry" if self.runs == 1:
                raise Retry("busy", after=7)
            case "retry at once" if self.runs == 1:
                raise Retry("busy")
            case "retry much later" if self.runs == 1:
                raise Retry("busy", after=3600)
            case "raise" if self.runs == 1:
                raise ValueError("secret-4111")
            case "reject":
                raise Reject("no")
        return Done(work.id, self.runs)


def made(script: Script, wait: float = 0) -> App:
    app = App("outcomes")

    @app.on("one", key=Key.field("id"), mode=Transactional(), same=("do",))
    async def one(work: Work, tx: Tx) -> Done:
        await tx.execute("insert into runs (id) values ($1)", work.id)
        return await script.run(work)

    @app.on("most", key=Key.field("id"), mode=AtMostOnce(), same=("do",))
    async def most(work: Work) -> Done:
        return await script.run(work)

    @app.on("least", key=Key.field("id"), mode=AtLeastOnce(), same=("do",))
    async def least(work: Work, ctx: Context) -> Done:
        return await script.run(work)

    def from_http(body: dict[str, str], request: Request) -> Work:
        if body.get("do") == "bad":
            raise BadRequest("not like this", code="of-mine")
        if body.get("do") == "bug":
            raise KeyError("secret-4111")
        return Work(request.key, body.get("do", "return"))

    for path, function in (("/one", one), ("/most", most), ("/least", least)):
        app.endpoint("POST", path, function, translate=from_http, tenant=single_tenant, status=201, wait=wait)
    sql = ("create table if not exists runs (id text not null)",)
    app.schema(postgres=sql, sqlite=sql)
    return app


MODES = ["/one", "/most", "/least"]


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
async def place(script, tmp_path, request) -> AsyncIterator[Site]:
    app = made(script, getattr(request, "param", 0))
    async with serving(app, await migrated(app, f"sqlite:///{tmp_path}/o.db")) as site:
        yield site


@pytest.mark.parametrize("path", MODES)
@pytest.mark.parametrize(
    ("do", "after"), [("retry", "7"), ("retry at once", "2"), ("retry much later", "60")]
)
async def test_retry_is_503_and_then_the_same_request_works(place, script, path, do, after):
    first = await place.post(path, "k", {"do": do})
    assert (first.status_code, code_of(first)) == (503, "try-again")
    assert first.headers["retry-after"] == after
    assert first.json()["retryable"] is True
    again = await place.post(path, "k", {"do": do})
    assert (again.status_code, again.json(), replayed(again)) == (201, {"id": "k", "run": 2}, False)
    if path == "/one":
        assert await place.rows("runs") == 1


@pytest.mark.parametrize("path", ["/one", "/least"])
async def test_what_may_be_repeated_fails_with_500_and_works_when_it_is_sent_again(
    place, script, path, caplog
):
    first = await place.post(path, "k", {"do": "raise"})
    assert (first.status_code, code_of(first)) == (500, "failed")
    assert first.json()["retryable"] is True
    assert "4111" not in first.text
    assert "ValueError" in caplog.text
    again = await place.post(path, "k", {"do": "raise"})
    assert (again.status_code, again.json()["run"], replayed(again)) == (201, 2, False)
    if path == "/one":
        assert await place.rows("runs") == 1


async def test_at_most_once_what_is_raised_is_in_doubt_until_somebody_has_found_out(place, script):
    for _ in range(3):
        reply = await place.post("/most", "k", {"do": "raise"})
        assert (reply.status_code, code_of(reply)) == (409, "outcome-unknown")
        assert "retry-after" not in reply.headers
        assert reply.json()["retryable"] is False
        assert "4111" not in reply.text
    assert script.runs == 1
    other = await place.post("/most", "k", {"do": "return"})
    assert code_of(other) == "payload-mismatch"
    [entry] = await place.entries()
    assert await resolve(place.running.runtime.store.operator, entry, "not-done", "looked it up") is None
    again = await place.post("/most", "k", {"do": "raise"})
    assert (again.status_code, again.json()["run"]) == (201, 2)


@pytest.mark.parametrize("path", MODES)
async def test_reject_is_stored_and_replayed(place, script, path):
    first, again = [await place.post(path, "k", {"do": "reject"}) for _ in range(2)]
    assert (first.status_code, code_of(first), replayed(first)) == (422, "rejected", False)
    assert (again.status_code, again.content, replayed(again)) == (422, first.content, True)
    assert first.headers["idempotency-key-expires"] == again.headers["idempotency-key-expires"]
    assert script.runs == 1
    assert await place.rows("runs") == 0


@pytest.mark.parametrize("path", MODES)
async def test_a_running_key_is_409_and_says_when_to_come_again(place, script, path):
    first = asyncio.create_task(place.post(path, "k", {"do": "hold"}))
    await script.entered.wait()
    reply = await place.post(path, "k", {"do": "hold"})
    assert (reply.status_code, code_of(reply)) == (409, "in-progress")
    assert 1 <= int(reply.headers["retry-after"]) <= 60
    other = await place.post(path, "k", {"do": "return"})
    assert (other.status_code, code_of(other)) == (422, "payload-mismatch")
    script.leave.set()
    done = await first
    again = await place.post(path, "k", {"do": "hold"})
    assert (again.status_code, again.content, replayed(again)) == (201, done.content, True)
    assert script.runs == 1


@pytest.mark.parametrize("place", [10], indirect=True)
@pytest.mark.parametrize("path", MODES)
async def test_who_may_wait_waits_for_the_result(place, script, path):
    asked = [asyncio.create_task(place.post(path, "k", {"do": "hold"})) for _ in range(5)]
    await script.entered.wait()
    script.leave.set()
    replies = await asyncio.gather(*asked)
    assert {r.status_code for r in replies} == {201}
    assert len({r.content for r in replies}) == 1
    assert sorted(map(replayed, replies)) == [False, True, True, True, True]
    assert script.runs == 1


@pytest.mark.parametrize("place", [10], indirect=True)
async def test_who_waits_for_one_that_fails_starts_it_anew(place, script):
    replies = await asyncio.gather(*(place.post("/one", "k", {"do": "raise"}) for _ in range(8)))
    assert sorted(r.status_code for r in replies) == [201] * 7 + [500]
    assert script.runs == 2
    assert await place.rows("runs") == 1


@pytest.mark.parametrize("path", MODES)
async def test_a_client_that_leaves_stops_nothing(place, script, path):
    leaving = asyncio.create_task(place.post(path, "k", {"do": "hold"}))
    await script.entered.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    script.leave.set()

    async def settled() -> bool:
        return [entry.state.word for entry in await place.entries()] == ["done"]

    await until(settled, "the attempt has ended")
    again = await place.post(path, "k", {"do": "hold"})
    assert (again.status_code, again.json()["run"], replayed(again)) == (201, 1, True)
    assert not script.cancelled


@pytest.mark.parametrize("path", MODES)
async def test_the_end_of_the_process_waits_for_what_has_started(script, tmp_path, path):
    app = made(script)
    url = await migrated(app, f"sqlite:///{tmp_path}/o.db")
    async with serving(app, url) as site:
        first = asyncio.create_task(site.post(path, "k", {"do": "hold"}))
        await script.entered.wait()
        asyncio.get_running_loop().call_later(0.2, script.leave.set)
    assert (await first).status_code == 201
    assert site.service.clean
    async with serving(app, url) as site:
        assert replayed(await site.post(path, "k", {"do": "hold"}))
    assert script.runs == 1
    assert not script.cancelled


@pytest.mark.parametrize("path", MODES)
async def test_what_translate_raises_burns_no_key(place, script, path):
    reply = await place.post(path, "k", {"do": "bad"})
    assert (reply.status_code, code_of(reply), reply.json()["detail"]) == (400, "of-mine", "not like this")
    bug = await place.post(path, "k", {"do": "bug"})
    assert (bug.status_code, code_of(bug)) == (500, "failed")
    assert "4111" not in bug.text
    assert await place.entries() == []
    assert script.runs == 0


async def test_who_asks_is_decided_before_anything_else(tmp_path):
    answers: list[object] = []
    app = App("tenants")

    @app.on("one", key=Key.field("id"), mode=AtMostOnce(), tenant=Key.header("tenant"), same=("do",))
    async def one(work: Work) -> None:
        return None

    async def tenant(request: Request) -> object:
        found = answers.pop()
        if isinstance(found, Exception):
            raise found
        return found

    def from_http(body: dict[str, str], request: Request) -> Work:
        return Work(request.key)

    app.endpoint("POST", "/one", one, translate=from_http, tenant=tenant, status=204)
    async with serving(app, await migrated(app, f"sqlite:///{tmp_path}/t.db")) as site:
        for answer, status in (
            (None, 401),
            ("", 401),
            (Unauthenticated("who?"), 401),
            (5, 400),
            (ValueError("secret-4111"), 500),
        ):
            answers.append(answer)
            reply = await site.post("/one", None, b"{")
            assert reply.status_code == status, answer
            assert "4111" not in reply.text
            assert ("www-authenticate" in reply.headers) == (status == 401)
        assert await site.entries() == []
        answers += ["t2", "t1"]
        first, second = [await site.post("/one", "k", {}) for _ in range(2)]
        assert [(r.status_code, r.content, replayed(r)) for r in (first, second)] == [(204, b"", False)] * 2
        assert {entry.tenant for entry in await site.entries()} == {"t1", "t2"}
