"""Formats, log lines, endings and choices: pure parts of the command line."""

import json
import logging
import sys
from typing import Any

import msgspec
import pytest

from consumer import App, AtLeastOnce, Key
from consumer.cli.logs import HumanFormatter, JsonFormatter
from consumer.cli.observer import Watcher, line_of, trace_id
from consumer.cli.output import printable, show_one, show_rows, table
from consumer.cli.publishing import BATCH, batches, field_text, lines_of
from consumer.cli.thinning import PER_SECOND, Thinning
from consumer.entry import Entry, State
from consumer.message import Envelope, Message
from consumer.operate.inspect import choose, choose_app, find
from consumer.operate.resolve import redrive, resolve
from consumer.operate.shown import detail_of, key_text, row_of, time_text
from consumer.path.keying import envelope_of
from consumer.path.parts import Ending, Work
from consumer.stores import open_store

app = App("shop")


class Payment(msgspec.Struct):
    payment_id: str


@app.on("payments", key=Key.field("payment_id"), mode=AtLeastOnce())
async def pay(payment: Payment) -> None: ...


ENTRY = Entry(bytes(16), "shop", "public", "payments", b"p-1", State.DEAD, 5, 7, 0.0, reason="no")


def entry(**changes) -> Entry:
    return msgspec.structs.replace(ENTRY, **changes)


def work(*headers: tuple[str, bytes], asked: int = 0) -> Work:
    [handler] = app.handlers.declared
    envelope = envelope_of("shop", handler, Message("payments", b'{"payment_id":"p-1"}', headers))
    assert isinstance(envelope, Envelope)
    return Work(handler, envelope, asked=asked)


# --- output ---------------------------------------------------------------------------------------------------------


def test_a_list_is_an_array_a_line_each_or_a_table(capsys):
    rows: list[dict[str, Any]] = [{"a": 1, "b": "x"}, {"a": None, "b": "\x1b[31m"}]
    show_rows(rows, "json", ["a"])
    assert json.loads(capsys.readouterr().out) == rows
    show_rows(rows, "jsonl", ["a"])
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows
    show_rows([], "json", ["a"])
    assert json.loads(capsys.readouterr().out) == []
    assert table(rows, ["a", "b"]) == ["a  b", "1  x", "-  \\x1b[31m"]
    assert table([], ["a"]) == []


def test_one_is_an_object_whatever_the_format(capsys):
    for output in ("json", "jsonl"):
        show_one(detail_of(ENTRY), output)
        shown = json.loads(capsys.readouterr().out)
        assert (shown["key"], shown["state"], shown["story"]) == ("p-1", "dead", [])


def test_nothing_reaches_a_terminal_unescaped():
    assert printable("a\x1b]0;\u202e\n") == "a\\x1b]0;\\u202e\\n"


def test_a_key_that_is_no_text_is_json_safe_and_exact_in_hex():
    row = row_of(entry(key=b"a\xff"))
    assert (row["key"], row["key_hex"]) == ("a\\xff", "61ff")
    assert key_text("ä".encode()) == "ä"
    assert time_text(0.0) == "1970-01-01T00:00:00.000Z"
    assert time_text(None) is None


def test_bytes_are_text_or_base64():
    message = Message("t", b"\xff", (("h", b"x"),)).encode()
    shown = detail_of(entry(message=message, result=b'{"a":1}'))
    assert shown["message"]["value"] == "/w=="
    assert shown["message"]["value_encoding"] == "base64"
    assert shown["message"]["headers"] == [{"name": "h", "value": "x", "value_encoding": "text"}]
    assert shown["result"] == {"a": 1}
    assert shown["has_bytes"] is True


# --- choosing -------------------------------------------------------------------------------------------------------


def test_a_key_means_the_keyed_entry():
    keyed, conflict = entry(state=State.DONE), entry(identity=b"c" * 16, keyed=False)
    assert choose([conflict, keyed]).entry is keyed
    assert choose([conflict]).entry is conflict
    other = entry(identity=b"o" * 16, handler="mails")
    assert choose([conflict, keyed, other]) == choose([keyed, other])
    assert choose([keyed, other]).entry is None
    assert len(choose([keyed, other]).candidates) == 2
    assert choose([]).candidates == ()


async def test_several_apps_must_be_told_apart():
    store = open_store("memory:", "shop")
    await store.open()
    assert await choose_app(store.operator, None) == await choose_app(store.operator, None)
    assert (await choose_app(store.operator, None)).name is None
    await store.operator.declare("shop", {"payments": "AtLeastOnce"})
    assert (await choose_app(store.operator, None)).name == "shop"
    await store.operator.declare("bank", {"payments": "AtLeastOnce"})
    choice = await choose_app(store.operator, None)
    assert (choice.fault, choice.known) == ("ambiguous", ("bank", "shop"))
    assert (await choose_app(store.operator, "bank")).fault == ""
    assert (await choose_app(store.operator, "bakery")).fault == "unknown"
    assert (await find(store.operator, b"p-1", app="shop")).candidates == ()


async def test_only_a_doubt_can_be_resolved_and_a_changed_entry_is_told():
    store = open_store("memory:", "shop")
    await store.open()
    assert "only an entry that is in_doubt" in (await resolve(store.operator, ENTRY, "done", "seen") or "")
    gone = await resolve(store.operator, entry(state=State.IN_DOUBT), "done", "seen")
    assert gone == "the entry is gone meanwhile"


class _Clash:
    """A store with a key's own entry and the dead letter of another payload under it."""

    def __init__(self, *found: Entry):
        self.found = found
        self.redriven: list[bytes] = []

    async def find(self, key: bytes, **_: Any) -> list[Entry]:
        return [each for each in self.found if each.key == key]

    async def redrive(self, identity: bytes, token: int, reason: str) -> bool:
        self.redriven.append(identity)
        return True


async def test_a_conflict_is_not_redriven_while_the_keys_entry_is_there():
    """It would be refused again. The command's exit code is 1 wherever a text comes back."""
    conflict = entry(identity=b"c" * 16, keyed=False, reason="conflict: another payload")
    store: Any = _Clash(entry(state=State.DONE), conflict)
    refusal = await redrive(store, conflict, "again")
    assert f"another payload has this key, in the entry {ENTRY.identity.hex()} (done)" in (refusal or "")
    assert store.redriven == []
    alone: Any = _Clash(conflict)
    assert await redrive(alone, conflict, "its entry is purged") is None
    assert alone.redriven == [conflict.identity]


# --- publishing -----------------------------------------------------------------------------------------------------


def test_lines_are_taken_byte_for_byte(tmp_path):
    file = tmp_path / "lines"
    file.write_bytes(b'{"a": 1}\r\n\n  \nnot json \n\xff')
    with file.open("rb") as lines:
        assert list(lines_of(lines)) == [b'{"a": 1}', b"not json ", b"\xff"]


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b'{"k":"x"}', "x"),
        (b'{"k":7}', "7"),
        (b'{"k":true}', None),
        (b'{"k":1.5}', None),
        (b'{"k":""}', None),
        (b'{"k":null}', None),
        (b"{}", None),
        (b"[1]", None),
        (b"not json", None),
        (b"\xff", None),
    ],
)
def test_the_key_is_a_field_or_nothing(value, key):
    assert field_text(value, "k") == key


def test_batches_are_bounded_and_every_message_has_its_own_id():
    groups = list(batches([b'{"k":"x"}'] * (BATCH + 1), "t", (("h", b"1"),), "k"))
    assert [len(group) for group in groups] == [BATCH, 1]
    assert len({message.id for group in groups for message in group}) == BATCH + 1
    assert (groups[1][0].ordering_key, groups[1][0].headers) == ("x", (("h", b"1"),))
    assert list(batches([], "t", (), None)) == []


# --- endings and logs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "line"),
    [
        (Ending(State.DONE, ack=True), "p-1 done 4 ms"),
        (Ending(State.DONE, ack=True, duplicate=True), "p-1 duplicate of done"),
        (Ending(State.WAITING, ack=True, attempt=2, delay=2.0), "p-1 waiting 2 s, 2 of 5"),
        (
            Ending(State.WAITING, ack=True, attempt=1, delay=0.5, reason="away"),
            "p-1 waiting 0.5 s, 1 of 5: away",
        ),
        (Ending(State.DEAD, ack=True, reason="no"), "p-1 dead: no"),
        (Ending(State.IN_DOUBT, ack=True, reason="lost"), "p-1 in doubt: lost"),
        (
            Ending(State.DEAD, ack=True, duplicate=True, conflict=True, reason="x"),
            "p-1 conflict, a dead letter: x",
        ),
        (
            Ending(State.DEAD, ack=False, duplicate=True, conflict=True, reason="x"),
            "p-1 conflict, refused: x",
        ),
        (Ending(State.RUNNING, ack=False, reason="fenced"), "p-1 not settled: fenced"),
    ],
)
def test_a_line_per_delivery(ending, line):
    assert line_of(work(), ending, 0.004) == line


@pytest.mark.parametrize(
    ("ending", "level"),
    [
        (Ending(State.DEAD, ack=True), logging.WARNING),
        (Ending(State.IN_DOUBT, ack=True), logging.WARNING),
        (Ending(State.DEAD, ack=True, duplicate=True, conflict=True), logging.WARNING),
        (Ending(State.DEAD, ack=False, duplicate=True, conflict=True), logging.INFO),
        (Ending(State.WAITING, ack=True), logging.INFO),
        (Ending(State.DONE, ack=True), logging.DEBUG),
        (Ending(State.DEAD, ack=True, duplicate=True), logging.DEBUG),
    ],
)
def test_endings_are_logged_by_what_they_mean_to_people(caplog, ending, level):
    caplog.set_level(logging.DEBUG, logger="consumer.endings")
    traceparent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    Watcher().ended(work(("traceparent", traceparent)), ending, 0.0)
    [record] = caplog.records
    assert record.levelno == level
    assert record.fields == {
        "handler": "payments",
        "tenant": "public",
        "key_hash": "1dee6e3e",
        "attempt": 0,
        "state": ending.state.word,
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
    }
    assert "p-1" not in record.getMessage()


def test_a_key_that_runs_elsewhere_is_said_once():
    said: list[str] = []
    running = Ending(State.RUNNING, ack=False, duplicate=True)
    for asked in range(3):
        Watcher(said.append).ended(work(asked=asked), running, 0.0)
    assert said == ["p-1 duplicate of running"]


def test_a_handler_that_fails_at_everything_writes_twenty_lines_a_second_and_says_how_many_more(caplog):
    """Dead letters are not thinned: each must be found."""
    caplog.set_level(logging.INFO, logger="consumer.endings")
    now = 100.0
    watcher = Watcher(thinning=Thinning(lambda: now))
    waiting = Ending(State.WAITING, ack=True, attempt=1, delay=2.0, reason="no")
    for _ in range(500):
        watcher.ended(work(), waiting, 0.0)
        watcher.ended(work(), Ending(State.DEAD, ack=True, attempt=5, reason="no"), 0.0)
    assert [record.levelname for record in caplog.records].count("INFO") == PER_SECOND
    assert [record.levelname for record in caplog.records].count("WARNING") == 500
    caplog.clear()
    now = 101.0
    watcher.ended(work(), waiting, 0.0)
    watcher.ended(work(), waiting, 0.0)
    assert [record.getMessage() for record in caplog.records] == [
        "payments: waiting 2 s, 1 of 5: no (and 480 more such lines of this handler, at debug)",
        "payments: waiting 2 s, 1 of 5: no",
    ]


@pytest.mark.parametrize("value", [b"", b"00-abc-b7ad6b7169203331-01", b"00-" + b"z" * 32 + b"-1-1", b"\xff"])
def test_a_malformed_traceparent_is_no_trace(value):
    assert trace_id(Message("t", b"", (("traceparent", value),))) is None


def record(message: str, **extra) -> logging.LogRecord:
    made = logging.LogRecord("consumer.x", logging.WARNING, "f.py", 1, message, (), None)
    made.__dict__.update(extra)
    return made


def test_a_log_line_is_one_json_object_whatever_is_in_it():
    line = JsonFormatter().format(record('a "b"\n', fields={"handler": "payments", "attempt": 2}))
    assert "\n" not in line
    parsed = json.loads(line)
    assert parsed.pop("time").endswith("Z")
    assert parsed == {
        "level": "warning",
        "logger": "consumer.x",
        "message": 'a "b"\n',
        "handler": "payments",
        "attempt": 2,
    }
    assert json.loads(JsonFormatter().format(record("\udcff")))["message"] == "\\udcff"


def test_a_traceback_is_part_of_its_log_line():
    try:
        raise ValueError("why")
    except ValueError:
        told = record("failed", exc_info=sys.exc_info())
    assert "ValueError: why" in json.loads(JsonFormatter().format(told))["exception"]
    assert HumanFormatter().format(told).endswith("ValueError: why")
    assert "\x1b" not in HumanFormatter().format(record("\x1b[2J"))
