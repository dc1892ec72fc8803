"""The exit codes, and the one place where an exception becomes one."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import functools
import os
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NoReturn, ParamSpec, TypeVar

import click

from consumer.errors import (
    BrokerUnavailable,
    ConsumerError,
    RegistrationError,
    SchemaMismatch,
    SettingsError,
    StoreUnavailable,
)
from consumer.settings import redacted

__all__ = ["MEANINGS", "PATIENCE", "Code", "Stop", "guarded", "migrate_hint", "patiently"]

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE = 10.0
"""Seconds that a one-shot verb waits for a store or broker before it says that nobody answers."""


class Code(enum.IntEnum):
    """What a command says with its exit code."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    AMBIGUOUS = 4
    UNAVAILABLE = 69
    BUG = 70
    CONFIGURATION = 78


MEANINGS: dict[Code, str] = {
    Code.OK: "done; for `run`: everything in hand had ended",
    Code.FAILED: "it was refused or did not work; the reason is on stderr. For `run`: a handler did not end within the grace",
    Code.USAGE: "the command line is wrong",
    Code.NOT_FOUND: "no entry has this key, no app has this name",
    Code.AMBIGUOUS: "several entries or apps could be meant; they are named on stderr",
    Code.UNAVAILABLE: "the store or the broker does not answer; `run` waits instead",
    Code.BUG: "a bug of ours; the traceback is on stderr",
    Code.CONFIGURATION: "a declaration, a setting or the schema is wrong; the text says what mends it",
}


class Stop(Exception):
    """The command ends here, for a reason that is no fault of the program.

    Args:
        code: the exit code.
        text: for stderr.
    """

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


def guarded(function: Callable[P, None]) -> Callable[P, None]:
    """Wrap a command so that whatever it raises becomes a line on stderr and an exit code, never a surprise."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Stop as stop:
            _leave(stop.code, str(stop))
        except (RegistrationError, SettingsError) as fault:
            _leave(Code.CONFIGURATION, f"error: {fault}")
        except (StoreUnavailable, BrokerUnavailable) as fault:
            _leave(Code.UNAVAILABLE, f"error: {fault}")
        except ConsumerError as fault:
            _leave(Code.FAILED, f"error: {fault}")
        except BrokenPipeError:
            # Whoever read us has gone (`| head`): nothing is left to be said, not even by the interpreter's last flush.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            _leave(Code.FAILED)
        except KeyboardInterrupt:
            _leave(Code.FAILED, "interrupted")
        except Exception:  # noqa: BLE001 - a bug: shown whole, with an exit code of its own
            _leave(Code.BUG, traceback.format_exc().rstrip())

    return wrapper


@contextlib.contextmanager
def migrate_hint(app: str, store: str | None) -> Iterator[None]:
    """Complete the text of a `SchemaMismatch` to the command that mends it, as it would be typed here.

    Args:
        app: as given on the command line.
        store: as given on the command line; `None`: it was not.
    """
    try:
        yield
    except SchemaMismatch as fault:
        command = f"consumer migrate {app}" + (f" --store {redacted(store)}" if store else "")
        raise SchemaMismatch(str(fault).replace("`consumer migrate`", f"`{command}`")) from None


async def patiently(what: str, work: Coroutine[Any, Any, T]) -> T:
    """Await `work` for at most `PATIENCE` seconds.

    Raises:
        StoreUnavailable: the time has passed; whether it happened is not known.
    """
    try:
        async with asyncio.timeout(PATIENCE):
            return await work
    except TimeoutError:
        raise StoreUnavailable(f"{what} does not answer within {PATIENCE:g} s") from None


def _leave(code: Code, text: str = "") -> NoReturn:
    if text:
        click.echo(text, err=True)
    raise click.exceptions.Exit(int(code))
