"""Stores by URL: what is opened, and what is refused in which words."""

from __future__ import annotations

import builtins

import pytest

from consumer.errors import SettingsError
from consumer.settings import redacted
from consumer.stores import open_store
from consumer.stores.memory import MemoryStore


def test_memory_is_fresh_each_time():
    one, two = open_store("memory:", "shop"), open_store("memory:", "shop")
    assert isinstance(one, MemoryStore)
    assert isinstance(two, MemoryStore)
    assert one.data is not two.data


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///relative.db", "relative.db"),
        ("sqlite:///some/where.db", "some/where.db"),
        ("sqlite:////absolute.db", "/absolute.db"),
        ("SQLite:////a%20b.db", "/a b.db"),
    ],
)
def test_a_sqlite_url_names_a_file(monkeypatch, url, path):
    from consumer.stores import sqlite

    monkeypatch.setattr(sqlite, "SqliteStore", lambda *args: args)
    opened: object = open_store(url, "shop")
    assert opened == (path, "shop")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_a_postgres_url_is_passed_on(monkeypatch, scheme):
    from consumer.stores import postgres

    monkeypatch.setattr(postgres, "PostgresStore", lambda *args: args)
    url = f"{scheme}://user:pw@host/db?sslmode=require"
    opened: object = open_store(url, "shop")
    assert opened == (url, "shop")


@pytest.mark.parametrize(
    ("url", "shown", "mend"),
    [
        ("redis://:hunter2@cache:none/0", "redis://:…@cache:none/0", "is not a port"),
        ("postgresql:/me:hunter2@host/db", "…@host/db", "postgresql://host/"),
        ("postgres:me:hunter2@host/db", "…@host/db", "postgres://host/"),
        ("redis:/:hunter2@cache:6379/0", "…@cache:6379/0", "redis://host/"),
        ("redis+sentinel:/:hunter2@cache:6379/0", "…@cache:6379/0", "redis+sentinel://host/"),
        ("mysql://me:hunter2@host/db", "mysql://me:…@host/db", "no such kind of store"),
        ("mysql://me:hunter2/@host/db", "mysql://me:…@host/db", "no such kind of store"),
        ("shop.db", "shop.db", "sqlite:///shop.db"),
        ("", "''", "no such kind of store"),
        ("sqlite:", "sqlite:", "sqlite:///relative.db"),
        ("sqlite://shop.db", "sqlite://shop.db", "sqlite:///relative.db"),
        ("sqlite:///", "sqlite:///", "a file is needed"),
        ("sqlite:///:memory:", "sqlite:///:memory:", "memory:"),
        ("sqlite:///a.db?password=hunter2", "sqlite:///a.db?password=…", "a file is needed"),
    ],
)
def test_what_cannot_be_opened_is_refused_with_a_mend(url, shown, mend):
    with pytest.raises(SettingsError) as refused:
        open_store(url, "shop")
    assert shown in str(refused.value)
    assert mend in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_missing_driver_names_the_extra(monkeypatch):
    real = builtins.__import__

    def without_asyncpg(name, *args, **kwargs):
        if name.startswith("consumer.stores.postgres"):
            raise ModuleNotFoundError("No module named 'asyncpg'", name="asyncpg")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_asyncpg)
    with pytest.raises(SettingsError, match=r"idempotent-consumer\[postgres\]") as refused:
        open_store("postgresql://me:hunter2@host/db", "shop")
    assert "hunter2" not in str(refused.value)


def test_another_missing_module_is_not_explained_away(monkeypatch):
    real = builtins.__import__

    def broken(name, *args, **kwargs):
        if name.startswith("consumer.stores.postgres"):
            raise ModuleNotFoundError("No module named 'nonsense'", name="nonsense")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(ModuleNotFoundError, match="nonsense"):
        open_store("postgresql://host/db", "shop")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://host/db", "postgresql://host/db"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("postgresql://me:p@ss@host/db", "postgresql://me:…@host/db"),
        ("postgresql://host/db?user=me&password=hunter2&x=1", "postgresql://host/db?user=me&password=…&x=1"),
        ("me:hunter2@host", "…@host"),
    ],
)
def test_a_url_is_shown_without_its_password(url, shown):
    assert redacted(url) == shown
