"""The command line's own decisions, in this process: no brokers, no child processes."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from consumer.cli import main
from consumer.cli.exits import MEANINGS, Code
from consumer.errors import ConsumerError, RegistrationError, SettingsError, StoreUnavailable
from consumer.operate.settings_page import settings_page

SHOP = """
from consumer import App, AtLeastOnce, AtMostOnce, Handlers, Key, Transactional, Tx
from msgspec import Struct
app = App("shop")
handlers = Handlers()
class Payment(Struct):
    payment_id: str
class Away: ...
app.schema(sqlite=["create table if not exists ledger (payment_id text)"])
@app.on("payments", key=Key.field("payment_id"), mode=Transactional())
async def pay(payment: Payment, tx: Tx) -> None:
    await tx.execute("insert into ledger values ($1)", payment.payment_id)
@app.on("mails", key=Key.field("payment_id"), mode=AtMostOnce(), same=["payment_id"])
async def mail(payment: Payment) -> None: ...
laned = App("laned")
@laned.on("mails", key=Key.field("payment_id"), mode=AtMostOnce(), ordered=True)
async def in_order(payment: Payment) -> None: ...
slow = App("slow")
@slow.on("payments", key=Key.field("payment_id"), mode=Transactional(), timeout=90)
async def wait_long(payment: Payment) -> None: ...
unmet = App("unmet")
@unmet.on("mails", key=Key.field("payment_id"), mode=AtLeastOnce())
async def needs(payment: Payment, away: Away) -> None: ...
"""


@pytest.fixture(autouse=True)
def shop(tmp_path, monkeypatch):
    """A folder with an application, imported anew; logging and the import path as they were afterwards."""
    root, ours = logging.getLogger(), logging.getLogger("consumer")
    before = root.handlers[:], root.level, ours.level
    (tmp_path / "cli_shop.py").write_text(SHOP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("CONSUMER_STORE", "CONSUMER_BROKER"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path
    root.handlers[:], root.level, ours.level = before
    for name in [name for name in sys.modules if name.startswith("cli_")]:
        del sys.modules[name]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_help_names_every_verb_and_imports_no_adapter():
    script = (
        "import sys; from click.testing import CliRunner; from consumer.cli import main\n"
        "print(CliRunner().invoke(main, ['--help']).output)\n"
        "print([m for m in sys.modules if m.startswith(('consumer.stores.', 'consumer.brokers.kafka', 'sqlite3',"
        " 'asyncpg', 'aiokafka', 'redis', 'rich', 'uvicorn', 'starlette'))])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    for verb in ("run", "migrate", "publish", "check", "explain", "try", "inbox", "outbox"):
        assert f"\n  {verb} " in done.stdout
    assert done.stdout.strip().endswith("[]")


def test_the_page_of_exit_codes_is_the_table():
    page = Path(__file__).parents[2].joinpath("docs/cli.md").read_text(encoding="utf-8")
    for code in Code:
        assert f"| {int(code)} | {MEANINGS[code]} |" in page


def test_the_page_of_settings_is_generated():
    page = Path(__file__).parents[2].joinpath("docs/settings.md").read_text(encoding="utf-8")
    assert page == settings_page()


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (SettingsError("x"), Code.CONFIGURATION),
        (RegistrationError("x"), Code.CONFIGURATION),
        (StoreUnavailable("x"), Code.UNAVAILABLE),
        (ConsumerError("x"), Code.FAILED),
    ],
)
def test_a_fault_is_one_line_and_its_code(monkeypatch, fault, code):
    def broken(name):
        raise fault

    monkeypatch.setattr(sys.modules["consumer.cli.check"], "load_app", broken)
    done = run("check", "cli_shop:app")
    assert (done.exit_code, done.stderr) == (code, "error: x\n")


def test_a_bug_is_a_traceback_and_a_code_of_its_own(monkeypatch):
    def broken(name):
        raise RuntimeError("a bug")

    monkeypatch.setattr(sys.modules["consumer.cli.check"], "load_app", broken)
    done = run("check", "cli_shop:app")
    assert done.exit_code == Code.BUG
    assert done.stderr.startswith("Traceback")
    assert "RuntimeError: a bug" in done.stderr


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cli_shop", "module:attribute"),
        ("cli_shop:", "module:attribute"),
        ("cli_nothing:app", "no module 'cli_nothing'"),
        ("cli_shop.inner:app", "no module"),
        ("cli_shop:ap", "did you mean 'app'?"),
        ("cli_shop:handlers", "is a Handlers, not an App; give it to an App"),
        ("cli_shop:Payment", "is the class Payment, not an App"),
        ("cli_needs:app", "needs 'cli_absent', which is not installed"),
        ("cli_raises:app", "ZeroDivisionError: division by zero"),
        ("cli_syntax:app", "cli_syntax.py:2"),
        ("cli_exits:app", "SystemExit: 3"),
    ],
)
def test_an_app_that_cannot_be_loaded_is_one_clear_line(shop, name, text):
    (shop / "cli_needs.py").write_text("import cli_absent\n")
    (shop / "cli_raises.py").write_text("\n1 / 0\n")
    (shop / "cli_syntax.py").write_text("\n)\n")
    (shop / "cli_exits.py").write_text("raise SystemExit(3)\n")
    done = run("check", name)
    assert done.exit_code == Code.CONFIGURATION
    assert text in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_an_import_that_fails_names_its_place(shop):
    (shop / "cli_raises.py").write_text("\n1 / 0\n")
    assert "cli_raises.py:2)" in run("check", "cli_raises:app").stderr


def test_check_says_everything_at_once():
    done = run("check", "cli_shop:app", "--store", "memory:")
    assert done.exit_code == Code.CONFIGURATION
    assert "payments is Transactional" in done.stderr
    assert run("check", "cli_shop:app").exit_code == Code.OK
    assert "timeout=60 or less" in run("check", "cli_shop:slow", "--store", "postgresql://host/db").stderr
    done = run("check", "cli_shop:unmet", "--broker", "kafka://nowhere")
    assert "asks for Away" in done.stderr
    assert "nowhere" in done.stderr


def test_check_refuses_the_concurrency_of_nobody(shop):
    (shop / "consumer.toml").write_text("[consumer]\nconcurrency = {paymens = 2}\n")
    done = run("check", "cli_shop:app")
    assert done.exit_code == Code.CONFIGURATION
    assert "paymens" in done.stderr


def test_check_refuses_webhooks_that_go_to_a_broker_that_is_not_there(shop):
    """As `ingest` does. Mutant: nobody asks."""
    (shop / "consumer.toml").write_text('[consumer]\nwebhooks_to = "broker"\n')
    done = run("check", "cli_shop:app")
    assert done.exit_code == Code.CONFIGURATION
    assert "webhooks_to = 'broker'" in done.stderr
    assert "or webhooks_to = 'store'" in done.stderr
    assert run("check", "cli_shop:app", "--broker", "kafka://host:9092").exit_code == Code.OK


def test_a_password_is_never_shown():
    for arguments in (
        ("inbox", "list", "--store", "nosql://user:hunter2@host/db"),
        ("inbox", "list", "--store", "postgresql://user:hunter2@127.0.0.1:1/db"),
        ("check", "cli_shop:app", "--store", "mysql://user:hunter2@host/db"),
        ("explain", "cli_shop:app", "--store", "postgresql://user:hunter2@127.0.0.1:1/db"),
        ("check", "cli_shop:app", "--broker", "kafka://user:hunter2@host:9092"),
    ):
        done = run(*arguments)
        assert done.exit_code in {Code.CONFIGURATION, Code.UNAVAILABLE}
        assert "hunter2" not in done.output + done.stderr


@pytest.mark.parametrize("verb", ["run", "ingest", "migrate", "check"])
def test_a_store_that_cannot_keep_a_promise_is_refused_before_it_is_asked_for(verb):
    """Nobody listens at that port: were it connected to first, the refusal would never come."""
    done = run(verb, "cli_shop:app", "--store", "redis://:hunter2@127.0.0.1:1/0")
    assert done.exit_code == Code.CONFIGURATION
    assert "payments is Transactional" in done.output + done.stderr
    assert "has no transactions; use postgresql:// or sqlite://" in done.output + done.stderr
    assert "hunter2" not in done.output + done.stderr


@pytest.mark.parametrize("verb", ["run", "ingest", "migrate", "check"])
def test_a_store_without_lanes_is_refused_for_an_ordered_handler(verb):
    done = run(verb, "cli_shop:laned", "--store", "redis://127.0.0.1:1/0")
    assert done.exit_code == Code.CONFIGURATION
    assert "mails is ordered" in done.output + done.stderr
    assert "keeps no order; use postgresql:// or sqlite://" in done.output + done.stderr


def test_explain_is_generated_from_the_table_of_modes():
    done = run("explain", "cli_shop:app", "--store", "memory:")
    assert done.exit_code == Code.OK
    assert "per key at most one attempt's database changes commit" in done.stdout
    assert "has no transactions: this handler is refused at start" in done.stdout
    assert "mails  AtMostOnce()" in done.stdout
    assert "the same key with another payment_id is a conflict" in done.stdout


def test_run_refuses_several_processes_where_nothing_can_be_shared():
    done = run("run", "cli_shop:app", "--processes", "2", "--store", "memory:")
    assert done.exit_code == Code.CONFIGURATION
    assert "processes = 2: memory: lives in one process" in done.stderr


def test_a_relay_needs_a_broker():
    done = run("relay", "cli_shop:app")
    assert done.exit_code == Code.CONFIGURATION
    assert "embedded topics need no relay" in done.stderr


def test_tables_for_another_kind_of_store_only_are_worth_a_warning(tmp_path):
    shop = SHOP.replace("app.schema(sqlite=", "app.schema(postgres=")
    (tmp_path / "elsewhere_shop.py").write_text(shop)
    done = run("migrate", "elsewhere_shop:app", "--store", "sqlite:///here.db")
    assert done.exit_code == 0
    assert done.stderr == "warning: shop declares tables for postgres, and none for this store\n"


def test_a_missing_schema_says_which_command_makes_it():
    done = run("publish", "cli_shop:app", "mails", "{}", "--store", "sqlite:///none.db")
    assert done.exit_code == Code.CONFIGURATION
    assert "`consumer migrate cli_shop:app --store sqlite:///none.db`" in done.stderr
    assert run("inbox", "list").exit_code == Code.CONFIGURATION


@pytest.mark.parametrize(
    "arguments",
    [
        ("publish", "cli_shop:app", "mails", "{}"),
        ("migrate", "cli_shop:app"),
        ("inbox", "list"),
        ("inbox", "show", "k"),
        ("outbox", "list"),
    ],
)
def test_a_store_that_ends_with_the_process_is_of_no_use_to_a_verb_that_does(arguments):
    done = run(*arguments, "--store", "memory:")
    assert (done.exit_code, done.stdout) == (Code.CONFIGURATION, "")
    assert done.stderr.startswith("error: store='memory:': nothing in it outlives this process")
    assert done.stderr.count("\n") == 1


def test_an_embedded_topic_without_a_handler_is_refused_unless_it_is_meant():
    run("migrate", "cli_shop:app")
    done = run("publish", "cli_shop:app", "mail", '{"payment_id": "p-1"}')
    assert (done.exit_code, done.stdout) == (Code.FAILED, "")
    assert "topic 'mail': no handler of shop subscribes to it" in done.stderr
    assert "did you mean 'mails'?" in done.stderr
    assert done.stderr.count("\n") == 1
    meant = run("publish", "cli_shop:app", "mail", '{"payment_id": "p-1"}', "--unrouted")
    assert (meant.exit_code, meant.stdout) == (Code.OK, "published 1\n")
    assert run("inbox", "list", "-o", "json").stdout == "[]\n"


def test_a_table_names_every_entry_by_its_key_or_its_id():
    """A key is cut where it is long, and what has no key has none to be named by: then the id stands beside it."""
    run("migrate", "cli_shop:app")
    long = "k" * 60 + "/end"
    run("publish", "cli_shop:app", "mails", '{"payment_id": "p-1"}')
    assert "id" not in run("inbox", "list").stdout.splitlines()[0].split()
    run("publish", "cli_shop:app", "mails", f'{{"payment_id": "{long}"}}')
    run("publish", "cli_shop:app", "mails", "{}")
    rows = json.loads(run("inbox", "list", "-o", "json").stdout)
    ids = {row["key"]: row["id"] for row in rows}
    head, *lines = run("inbox", "list").stdout.splitlines()
    assert "id" in head.split()
    assert max(map(len, lines)) < 200
    for row, line in zip(rows, lines, strict=True):
        assert (row["id"] in line) == (len(row["key"]) > 40 or not row["keyed"]), line
    [cut] = [line for line in lines if ids[long] in line]
    assert long not in cut
    assert "/end" in cut


def test_migrate_is_repeatable_and_can_be_only_looked_at(shop):
    done = run("migrate", "cli_shop:app", "--dry-run")
    assert "would do" in done.stdout
    assert not (shop / "consumer.db").exists()
    assert "done  0001" in run("migrate", "cli_shop:app").stdout
    assert "up to date" in run("migrate", "cli_shop:app").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("publish", "cli_shop:app", "mails"),
        ("publish", "cli_shop:app", "mails", "{}", "--file", "-"),
        ("publish", "cli_shop:app", "not a topic", "{}"),
        ("publish", "cli_shop:app", "mails", "{}", "--header", "novalue"),
        ("publish", "cli_shop:app", "mails", "{}", "--tenant", "\x01"),
        ("publish", "cli_shop:app", "mails", "{}", "--key-field", "a", "--ordering-key-field", "b"),
        ("inbox", "resolve", "k", "--as", "done"),
        ("inbox", "resolve", "k", "--as", "done", "--reason", "  "),
        ("inbox", "resolve", "k", "--as", "maybe", "--reason", "x"),
        ("inbox", "resolve", "k", "--as", "dead", "--reason", "x", "--result", "{}"),
        ("inbox", "resolve", "k", "--as", "done", "--reason", "x", "--result", "{"),
        ("inbox", "redrive", "k", "--reason", ""),
        ("inbox", "list", "--state", "absent"),
        ("inbox", "list", "--limit", "0"),
        ("inbox", "purge", "--handler", "mails", "--older-than", "14"),
        ("frobnicate",),
    ],
)
def test_a_wrong_command_line(arguments):
    assert run(*arguments).exit_code == Code.USAGE


def test_purge_takes_an_age_and_one_handler():
    run("migrate", "cli_shop:app")
    done = run("inbox", "purge", "--handler", "mails", "--older-than", "14d")
    assert (done.exit_code, done.stdout) == (Code.OK, "purged 0\n")
