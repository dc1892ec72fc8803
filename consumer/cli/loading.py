"""`module:attribute` to an `App`."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from consumer.app import App
from consumer.declare.complaints import did_you_mean
from consumer.declare.handlers import Handlers
from consumer.errors import RegistrationError

__all__ = ["load_app"]


def load_app(name: str) -> App:
    """Import an app; the working directory is importable, also where `consumer` is an installed script.

    Args:
        name: `module:attribute`, as in `shop.app:app`.

    Raises:
        RegistrationError: it is not there, is no `App`, or its module cannot be imported; the text says where and why.
    """
    module_name, colon, path = name.partition(":")
    if not colon or not module_name or not path:
        raise RegistrationError(f"{name!r}: name an app as module:attribute, as in shop.app:app")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    found: Any = _imported(module_name, here)
    for attribute in path.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            raise RegistrationError(f"{name!r}: {_nothing(found, attribute, module_name)}") from None
    if not isinstance(found, App):
        what = f"the class {found.__name__}" if isinstance(found, type) else f"a {type(found).__name__}"
        hint = '; give it to an App: App("shop", handlers)' if isinstance(found, Handlers) else ""
        raise RegistrationError(f"{name!r}: is {what}, not an App{hint}")
    return found


def _imported(module: str, here: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except RegistrationError:
        raise
    except ModuleNotFoundError as missing:
        if missing.name and (module == missing.name or module.startswith(f"{missing.name}.")):
            raise RegistrationError(
                f"no module {missing.name!r}; looked in {here} and in what is installed"
            ) from None
        raise RegistrationError(
            f"{module} cannot be imported: it needs {missing.name!r}, which is not installed{_place(missing)}"
        ) from missing
    except SyntaxError as fault:
        raise RegistrationError(
            f"{module} cannot be imported: {fault.msg} ({fault.filename}:{fault.lineno})"
        ) from fault
    except (Exception, SystemExit) as fault:
        text = " ".join(f"{type(fault).__name__}: {fault}".split())
        raise RegistrationError(
            f"{module} cannot be imported: {text}{_place(fault)}; python -c 'import {module}' shows all of it"
        ) from fault


def _place(fault: BaseException) -> str:
    """Return where in the imported code it happened: the innermost frame that is no importer's and not ours."""
    for frame in reversed(traceback.extract_tb(fault.__traceback__)):
        if not frame.filename.startswith("<frozen") and frame.filename not in {__file__, importlib.__file__}:
            return f" ({frame.filename}:{frame.lineno})"
    return ""


def _nothing(found: Any, attribute: str, module: str) -> str:
    if isinstance(found, ModuleType):
        apps = [key for key, value in vars(found).items() if isinstance(value, App)]
        return f"the module {module} has no {attribute!r}{did_you_mean(attribute, apps)}"
    return f"{type(found).__name__} has no {attribute!r}"
