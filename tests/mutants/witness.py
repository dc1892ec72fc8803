"""A pytest plugin: runs exactly the tests that were asked for, in that order, and writes down how each of them ended.

`MUTANTS_ORDER` names a JSON file that says what to do (`Order`); the lines (`Ended`) go to the file that it names.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec
import pytest

__all__ = ["VARIABLE", "Ended", "Order"]

VARIABLE = "MUTANTS_ORDER"
STOPPED = "a test has noticed"


class Order(msgspec.Struct):
    """What one run is told.

    Attributes:
        tree: the copy that `consumer` must come from.
        tests: node ids, in their order.
        modules: the mutated ones, which must be importable.
        report: where the lines go.
        until_noticed: end the run when an assertion has failed.
    """

    tree: str
    tests: list[str]
    modules: list[str]
    report: str
    until_noticed: bool


class Ended(msgspec.Struct):
    """How one test ended.

    Attributes:
        test: node id; empty for the run itself.
        how: `passed`, `noticed` (an assertion failed), `broke` (it failed otherwise), `skipped`, `missing`, `no import`.
        why: the exception, on one line.
    """

    test: str
    how: str
    why: str = ""


class Witness:
    """The hooks."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._ended: dict[str, Ended] = {}

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        there = {item.nodeid: item for item in items}
        for test in self._order.tests:
            if test not in there:
                self._write(Ended(test, "missing"))
        wanted = [there[test] for test in self._order.tests if test in there]
        config.hook.pytest_deselected(items=[item for item in items if item not in wanted])
        items[:] = wanted

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        known = self._ended.get(item.nodeid, Ended(item.nodeid, "passed"))
        if report.skipped:
            known = Ended(item.nodeid, "skipped", str(call.excinfo.value) if call.excinfo else "")
        elif report.failed and known.how == "passed" and call.excinfo is not None:
            raised = call.excinfo.value
            how = "noticed" if report.when == "call" and _asserted(raised) else "broke"
            known = Ended(item.nodeid, how, _line(raised))
        self._ended[item.nodeid] = known
        if known.how == "noticed" and self._order.until_noticed:
            item.session.shouldstop = STOPPED
        if report.when == "teardown":
            self._write(known)
        return report

    def _write(self, ended: Ended) -> None:
        with Path(self._order.report).open("ab") as lines:
            lines.write(msgspec.json.encode(ended) + b"\n")


def pytest_configure(config: pytest.Config) -> None:
    order = msgspec.json.decode(Path(os.environ[VARIABLE]).read_bytes(), type=Order)
    witness = Witness(order)
    try:
        for module in ["consumer", *order.modules]:
            importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - whatever it is: this mutant is no mutant
        witness._write(Ended("", "no import", _line(error)))
        pytest.exit("the mutant cannot be imported", returncode=3)
    import consumer

    assert consumer.__file__.startswith(order.tree), f"{consumer.__file__} is not the copy"
    config.pluginmanager.register(witness, "witness")


def _asserted(raised: BaseException) -> bool:
    """Whether a test said that something is not so, as opposed to: fell over, or waited in vain for its time limit."""
    if isinstance(raised, BaseExceptionGroup):
        return all(_asserted(one) for one in raised.exceptions)
    if isinstance(raised, pytest.fail.Exception):
        return not str(raised).startswith("Timeout")
    return isinstance(raised, AssertionError)


def _line(raised: Any) -> str:
    text = " ".join(str(raised).split())
    return f"{type(raised).__name__}: {text}"[:300]
