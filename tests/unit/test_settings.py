"""What is wrong with a setting is said in one line that names it, its value and the mend."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from consumer.errors import SettingsError
from consumer.settings import Secret, Settings

WRONG_NUMBERS = [
    ("worker_ttl", "nan", "must be from 1 to 86,400"),
    ("worker_ttl", "inf", "must be from 1 to 86,400"),
    ("grace", "nan", "must be from 0 to 86,400"),
    ("grace", "-1", "must be from 0 to 86,400"),
    ("grace", True, "a number is expected"),
    ("slots", "99999999999999999999", "must be from 1 to 100,000"),
    ("slots", 2.9, "a whole number is expected"),
    ("slots", True, "a whole number is expected"),
    ("slots", "many", "a whole number is expected"),
    ("processes", "0", "must be from 1 to 1,000"),
    ("health_port", "65536", "must be from 0 to 65,535"),
    ("consumer_group", "", "must not be empty; leave it out for the default"),
    ("instance", " ", "must not be empty; leave it out for the default"),
]


@pytest.mark.parametrize(("name", "value", "words"), WRONG_NUMBERS)
def test_a_value_out_of_range_is_refused(name: str, value: Any, words: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(words)) as refused:
        Settings.load(environ={}, **{name: value})
    assert str(refused.value).startswith(f"{name} = ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("consumer = 1", "consumer = 1: a table is expected; write [consumer]"),
        ("[[consumer]]\nslots = 1", "a table is expected; write [consumer]"),
        (
            "[consumer.topics]\npayments.requested = 'embedded:'",
            'a name with dots is quoted: "payments.…" = …',
        ),
        ("[consumer.topics]\n'payments.requested' = 3", "'embedded:', is expected"),
        ("[consumer.concurrency]\npayments.requested = 3", 'a name with dots is quoted: "payments.…" = …'),
        ("[consumer.concurrency]\nclicks = 1.5", "a whole number is expected"),
        ("[consumer]\nmode = 'x'", "changes the promise, so it lives in code"),
    ],
)
def test_a_file_that_says_something_else_than_it_should(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=re.escape(words)):
        Settings.load(file, environ={})


def test_a_secret_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="is not UTF-8 text"):
        Secret.file(str(file)).read()
    with pytest.raises(SettingsError, match="is not UTF-8 text"):
        Settings.load(environ={"CONSUMER_STORE_FILE": str(file)})


def test_flags_then_environment_then_file_then_defaults(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(
        "[consumer]\nslots = 3\ngrace = 7\nworker_ttl = 9.5\n[consumer.topics]\n'a.b' = 'embedded:'"
    )
    loaded = Settings.load(file, environ={"CONSUMER_GRACE": "8", "CONSUMER_WORKER_TTL": "10"}, worker_ttl=11)
    assert (loaded.slots, loaded.grace, loaded.worker_ttl, loaded.in_hand) == (3, 8.0, 11.0, 1_000)
    assert loaded.topics == {"a.b": "embedded:"}
