"""`Idempotency` around a bare ASGI application, on every store: once per key, and what everybody else is told."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from consumer.entry import State
from consumer.errors import StoreUnavailable
from consumer.http import Policy
from tests.http.guardkit import PATIENCE, Bank, Reply, guarding, prepared

STORES = ["memory", "sqlite", "postgres", "redis"]


@pytest.fixture(params=STORES)
async def url(request, tmp_path):
    match request.param:
        case "sqlite":
            return await prepared(f"sqlite:///{tmp_path}/shop.db")
        case "postgres":
            return await prepared(await _fresh(request, "postgres"))
        case "redis":
            return await prepared(await _fresh(request, "redis"))
    return "memory:"


async def _fresh(request: Any, service: str) -> str:
    return await request.getfixturevalue(f"{service}_service").fresh_database()


@pytest.fixture
async def bank() -> Bank:
    return Bank()


# -------------------------------------------------------------------------------------------- once, on every store


async def test_the_second_request_replays_the_first_response(bank, url):
    bank.headers += [(b"Set-Cookie", b"session=1"), (b"WWW-Authenticate", b"Basic"), (b"X-Request-Id", b"7")]
    async with guarding(bank, url) as client:
        first = await client.send("k1", b'{"amount":1}')
        second = await client.send("k1", b'{"amount":1}')
    assert bank.runs == 1
    assert (first.status, first.body) == (second.status, second.body) == (201, b'{"payment":1}')
    assert (first.replayed, second.replayed) == (False, True)
    assert first.headers["set-cookie"] == "session=1"
    for name in ("set-cookie", "www-authenticate", "x-request-id"):
        assert name in first.headers
        assert name not in second.headers
    assert second.headers["content-type"] == "application/json"
    assert second.headers["location"] == "/payments/1"
    assert second.headers["content-length"] == "13"


async def test_both_say_when_the_key_expires(bank, url):
    async with guarding(bank, url, retention=timedelta(days=3)) as client:
        dates = [(await client.send("k1")).headers["idempotency-key-expires"] for _ in range(2)]
    assert dates[0] == dates[1]
    assert parsedate_to_datetime(dates[0]).timestamp() == pytest.approx(time.time() + 3 * 86_400, abs=60)


async def test_of_sixty_four_at_once_one_reaches_the_application(bank, url):
    async with guarding(bank, url, wait=10) as client:
        held = [asyncio.create_task(client.send("k1", path="/wait")) for _ in range(64)]
        await bank.entered.wait()
        bank.leave.set()
        replies = await asyncio.gather(*held)
    assert bank.runs == 1
    assert {(reply.status, reply.body) for reply in replies} == {(201, b'{"payment":1}')}
    assert sum(not reply.replayed for reply in replies) == 1


@pytest.mark.parametrize("url", STORES[1:], indirect=True)
async def test_two_processes_that_want_a_key_at_once_run_it_once(bank, url):
    async with guarding(bank, url, wait=10) as one, guarding(bank, url, wait=10) as other:
        held = [asyncio.create_task(c.send("k1", path="/wait")) for c in (one, other) for _ in range(8)]
        await bank.entered.wait()
        assert (await other.send("k1", b"other", path="/wait")).code == "payload-mismatch"
        bank.leave.set()
        replies = await asyncio.gather(*held)
    assert bank.runs == 1
    assert {(reply.status, reply.body) for reply in replies} == {(201, b'{"payment":1}')}


async def test_another_payload_under_the_same_key_is_refused(bank, url):
    async with guarding(bank, url) as client:
        await client.send("k1", b"one", query=b"a=1")
        assert (await client.send("k1", b"two", query=b"a=1")).code == "payload-mismatch"
        assert (await client.send("k1", b"one", query=b"a=2")).code == "payload-mismatch"
        assert (await client.send("k1", b"one", query=b"a=1")).replayed
        assert [entry.state for entry in await client.entries()] == [State.DONE]
    assert bank.runs == 1


async def test_what_the_application_raises_is_raised_once_and_then_in_doubt(bank, url):
    async with guarding(bank, url) as client:
        with pytest.raises(ValueError, match="^broken$"):
            await client.send("k1", path="/raise")
        again = await client.send("k1", path="/raise")
        [entry] = await client.entries()
    assert (again.status, again.code) == (409, "outcome-unknown")
    assert "retry-after" not in again.headers
    assert (entry.state, entry.reason) == (State.IN_DOUBT, "ValueError: broken")
    assert bank.runs == 1


@pytest.mark.parametrize("word", ["not-done", "done", "dead"])
async def test_a_doubt_ends_as_somebody_says(word, bank, url):
    async with guarding(bank, url) as client:
        with pytest.raises(ValueError, match="broken"):
            await client.send("k1", path="/raise")
        await client.resolve(word)
        if word == "not-done":
            with pytest.raises(ValueError, match="broken"):
                await client.send("k1", path="/raise")
        else:
            reply = await client.send("k1", path="/raise")
            assert reply.code == {"done": "response-not-stored", "dead": "rejected"}[word]
            assert reply.replayed
    assert bank.runs == (2 if word == "not-done" else 1)


async def test_a_doubt_resolved_with_a_response_is_replayed_as_that(bank, url):
    async with guarding(bank, url) as client:
        with pytest.raises(ValueError, match="broken"):
            await client.send("k1", path="/raise")
        await client.resolve(
            "done", b'{"status":201,"headers":[["content-type","text/plain"]],"text":"paid"}'
        )
        reply = await client.send("k1", path="/raise")
    assert (reply.status, reply.body, reply.headers["content-type"]) == (201, b"paid", "text/plain")


@pytest.mark.parametrize("status", [400, 401, 403, 409, 422, 429, 503])
async def test_a_status_that_says_not_begun_frees_the_key(status, bank, url):
    bank.status = status
    async with guarding(bank, url) as client:
        first = await client.send("k1", b"wrong")
        assert await client.entries() == []
        bank.status = 201
        second = await client.send("k1", b"right")
    assert (first.status, first.replayed) == (status, False)
    assert "idempotency-key-expires" not in first.headers
    assert (second.status, second.replayed, bank.runs) == (201, False, 2)


@pytest.mark.parametrize("status", [200, 204, 303, 402, 404, 500, 502])
async def test_every_other_status_is_the_result(status, bank):
    bank.status = status
    if status == 204:
        bank.answer = b""
    async with guarding(bank) as client:
        first, second = await client.send("k1"), await client.send("k1")
    assert (first.status, second.status, bank.runs) == (status, status, 1)
    assert first.body == second.body
    assert second.replayed


async def test_a_status_that_says_not_known_leaves_the_key_in_doubt(bank, url):
    bank.status = 500
    async with guarding(bank, url, policy=Policy(doubtful={500})) as client:
        first, second = await client.send("k1"), await client.send("k1")
        [entry] = await client.entries()
    assert (first.status, first.body) == (500, b'{"payment":1}')
    assert second.code == "outcome-unknown"
    assert (entry.state, bank.runs) == (State.IN_DOUBT, 1)


@pytest.mark.parametrize("answer", [b"\x89PNG\r\n\x00\xff", "päivää \u0000 \U0001f4b0".encode(), b""])
async def test_a_body_is_replayed_byte_for_byte(answer, bank, url):
    bank.answer = answer
    async with guarding(bank, url) as client:
        assert [(await client.send("k1")).body for _ in range(2)] == [answer, answer]


# ------------------------------------------------------------------------------------- running, in doubt, out of reach


async def test_a_running_key_is_waited_for_and_then_told_of(bank):
    async with guarding(bank, wait=0.2) as client:
        first = asyncio.create_task(client.send("k1", path="/wait"))
        await bank.entered.wait()
        began = time.monotonic()
        second = await client.send("k1", path="/wait")
        assert 0.1 < time.monotonic() - began < PATIENCE / 2
        assert (second.status, second.code, second.headers["retry-after"]) == (409, "in-progress", "1")
        bank.leave.set()
        assert (await first).status == 201
        assert (await client.send("k1", path="/wait")).replayed


async def test_an_application_that_takes_too_long_is_cancelled_and_in_doubt(bank):
    async with guarding(bank, timeout=0.1) as client:
        first = await client.send("k1", path="/wait")
        assert bank.cancelled.is_set()
        again = await client.send("k1", path="/wait")
        [entry] = await client.entries()
    assert [(r.status, r.code) for r in (first, again)] == [(409, "outcome-unknown")] * 2
    assert entry.state is State.IN_DOUBT
    assert bank.runs == 1


@pytest.mark.parametrize("path", ["/half", "/silent"])
async def test_no_whole_response_is_no_outcome(path, bank):
    async with guarding(bank) as client:
        with pytest.raises(RuntimeError, match="without a whole response"):
            await client.send("k1", path=path)
        assert (await client.send("k1", path=path)).code == "outcome-unknown"
    assert bank.runs == 1


async def test_a_client_that_leaves_does_not_stop_what_has_started(bank):
    gone = asyncio.Event()
    async with guarding(bank, wait=10) as client:
        first = asyncio.create_task(client.into(Reply(), "k1", path="/wait", gone=gone))
        await bank.entered.wait()
        gone.set()
        first.cancel()  # as some servers do
        with pytest.raises(asyncio.CancelledError):
            await first
        second = asyncio.create_task(client.send("k1", path="/wait"))
        bank.leave.set()
        assert (await second).replayed
    assert (bank.runs, bank.cancelled.is_set()) == (1, False)


async def test_a_store_that_is_away_starts_nothing(bank):
    async with guarding(bank, "postgresql://nobody@127.0.0.1:9/none") as client:
        reply = await client.send("k1")
        assert (reply.status, reply.code) == (503, "store-unavailable")
        assert int(reply.headers["retry-after"]) >= 1
        assert bank.runs == 0
        assert (await client.send()).status == 201, "no key, no store"


class Deaf:
    """An inbox that does not answer when a result is to be stored, until it is mended."""

    def __init__(self, inbox: Any) -> None:
        self._inbox = inbox
        self.mended = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inbox, name)

    async def turn(self, worker: int, settles: Any, claims: Any) -> Any:
        if settles and not self.mended:
            raise StoreUnavailable("does not answer")
        return await self._inbox.turn(worker, settles, claims)


@pytest.mark.parametrize("path", ["/payments", "/raise"])
async def test_a_result_that_is_not_durable_is_told_to_nobody(path, bank, caplog):
    async with guarding(bank) as client:
        parts = client.opened.runtime.parts
        parts.inbox = deaf = Deaf(parts.inbox)
        first = await client.send("k1", path=path)
        assert (first.status, first.code) == (503, "store-unavailable")
        assert (await client.send("k1", path=path)).code == "in-progress"
        deaf.mended = True
        await client.opened.runtime.sweep.settle_owed()
        again = await client.send("k1", path=path)
        assert again.replayed if path == "/payments" else again.code == "outcome-unknown"
    assert bank.runs == 1
    assert ("ValueError: broken" in caplog.text) is (path == "/raise"), "what nobody is told is logged"


async def test_too_much_to_do_is_told_at_once(bank, monkeypatch):
    monkeypatch.setattr("consumer.path.desk.MOST_CALLS", 1)
    async with guarding(bank) as client:
        first = asyncio.create_task(client.send("k1", path="/wait"))
        await bank.entered.wait()
        reply = await client.send("k2")
        assert (reply.status, reply.code) == (503, "overloaded")
        bank.leave.set()
        await first


# ---------------------------------------------------------------------------------------------------- keys that are old


async def test_a_late_retry_of_a_forgotten_key_is_refused(bank, url):
    def uuid7(age: float) -> str:
        stamp = f"{int((time.time() - age) * 1000):012x}"
        return f"{stamp[:8]}-{stamp[8:]}-7abc-8def-0123456789ab"

    async with guarding(bank, url, refuse_late=True, retention=timedelta(days=1)) as client:
        old, new = uuid7(86_400 + 60), uuid7(86_400 - 60)
        assert (await client.send(old)).code == "key-expired"
        assert bank.runs == 0
        assert (await client.send(new)).status == 201
        assert (await client.send("no-uuid")).status == 201
    async with guarding(Bank(), url, refuse_late=True, retention=timedelta(seconds=10)) as client:
        if url != "memory:":  # which has forgotten everything
            assert (await client.send(new)).replayed, "it is known, so nothing can happen twice"


# -------------------------------------------------------------------------------------------------- large and streaming


async def test_a_response_that_is_too_large_passes_and_its_replay_says_so(bank, url):
    bank.answer = b"x" * 1001
    async with guarding(bank, url, policy=Policy(largest=1000)) as client:
        first, second = await client.send("k1"), await client.send("k1")
    assert (first.status, first.body) == (201, b"x" * 1001)
    assert (second.status, second.code, second.replayed) == (409, "response-not-stored", True)
    assert "201" in json.loads(second.body)["detail"]
    assert bank.runs == 1


async def test_one_byte_less_is_stored(bank):
    bank.answer = b"x" * 1000
    async with guarding(bank, policy=Policy(largest=1000)) as client:
        assert [(await client.send("k1")).body for _ in range(2)] == [b"x" * 1000] * 2


async def test_an_endless_stream_flows_and_ends_with_its_client(bank):
    bank.headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
    gone, reply = asyncio.Event(), Reply()
    async with guarding(bank, timeout=0.5) as client:
        request = asyncio.create_task(client.into(reply, "k1", path="/stream", gone=gone))
        async with asyncio.timeout(PATIENCE):
            await reply.began.wait()
            assert (await client.send("k1", path="/stream")).code == "response-not-stored", "done already"
            await asyncio.sleep(0.6)  # beyond the time-out, which is the attempt's
            assert not bank.cancelled.is_set()
            gone.set()
            await request
        assert bank.cancelled.is_set(), "told that its client has gone"
    assert reply.body.startswith(b"000000\n000001\n")


async def test_a_long_stream_is_whole(bank):
    reply = Reply()
    async with guarding(bank, policy=Policy(largest=100)) as client:
        request = asyncio.create_task(client.into(reply, "k1", path="/stream"))
        await reply.began.wait()
        bank.leave.set()
        await request
    lines = reply.body.decode().split("\n")
    assert lines[-1] == "end"
    assert lines[:-1] == [f"{number:06d}" for number in range(len(lines) - 1)]
    assert reply.whole.is_set()


async def test_a_large_refusal_passes_too_and_frees_its_key(bank):
    bank.status, bank.answer = 429, b"x" * 1001
    async with guarding(bank, policy=Policy(largest=1000)) as client:
        assert (await client.send("k1")).body == b"x" * 1001
        bank.status, bank.answer = 201, b"ok"
        assert (await client.send("k1")).body == b"ok"


# --------------------------------------------------------------------------------------------------- after the response


async def test_background_work_holds_up_neither_the_response_nor_its_replay(bank):
    reply = Reply()
    async with guarding(bank, timeout=10) as client:
        request = asyncio.create_task(client.into(reply, "k1", path="/background"))
        began = time.monotonic()
        await reply.whole.wait()
        assert (await client.send("k1", path="/background")).replayed
        assert time.monotonic() - began < 5, "it came by itself, not at the time-out"
        bank.leave.set()
        await request
    assert bank.finished.is_set()


async def test_background_work_may_take_longer_than_an_attempt(bank):
    reply = Reply()
    async with guarding(bank, timeout=0.3) as client:
        request = asyncio.create_task(client.into(reply, "k1", path="/background"))
        async with asyncio.timeout(PATIENCE):
            await reply.whole.wait()
            assert (await client.send("k1", path="/background")).replayed
            await asyncio.sleep(0.4)
            assert not bank.cancelled.is_set(), "the time-out is over, but the attempt was before"
            bank.leave.set()
            await request
    assert bank.finished.is_set()


async def test_what_is_raised_after_the_response_is_raised_and_the_key_is_done(bank):
    async with guarding(bank) as client:
        reply = Reply()
        with pytest.raises(ValueError, match="after its response"):
            await client.into(reply, "k1", path="/raise-late")
        assert reply.whole.is_set()
        assert (await client.send("k1", path="/raise-late")).replayed
