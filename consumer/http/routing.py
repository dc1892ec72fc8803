"""Which requests the middleware guards: `{"POST /payments/{id}": "required", "PATCH *": "off"}`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from consumer.errors import RegistrationError
from consumer.http.answer import Scope

__all__ = ["DEFAULTS", "Need", "Rule", "Rules", "path_of"]

Need = Literal["required", "optional", "off"]
"""What a route wants of `Idempotency-Key`: it must be sent; it may be sent, and then counts; it means nothing."""

DEFAULTS: Mapping[str, Need] = {"POST *": "optional", "PATCH *": "optional"}
"""What is guarded where nothing else is said: the two methods that HTTP does not call idempotent, or safe."""

_NEEDS = ("required", "optional", "off")
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::([a-z]+))?\}")
_KINDS = {"path": ".*", "int": "[0-9]+"}


@dataclass(frozen=True, slots=True)
class Rule:
    """One route.

    Attributes:
        name: as written: `POST /accounts/{account}/payments`, or `POST *` for every other path. The name of its entries.
        method: of the requests that it is about.
        pattern: what the path matches; `None`: every path.
        need: see `Need`.
    """

    name: str
    method: str
    pattern: re.Pattern[str] | None
    need: Need

    @staticmethod
    def of(text: str, need: str) -> Rule:
        """Read a rule.

        Raises:
            RegistrationError: it cannot be understood; the text says what is expected.
        """
        method, _, path = text.partition(" ")
        where = f"Idempotency: routes={{{text!r}: {need!r}}}"
        if method not in _METHODS:
            raise RegistrationError(
                f'{where}: begins with no method in capitals; write "POST /payments": "required"'
            )
        if need not in _NEEDS:
            raise RegistrationError(f"{where}: there are {', '.join(map(repr, _NEEDS))}")
        wanted: Need = "required" if need == "required" else "optional" if need == "optional" else "off"
        if path == "*":
            return Rule(text, method, None, wanted)
        if not path.startswith("/"):
            raise RegistrationError(
                f'{where}: the path starts with a slash, or is * for every path: "{method} /{path}"'
            )
        return Rule(text, method, _compiled(where, path), wanted)


class Rules:
    """All routes of an application. Written paths go before `*`, in the order in which they were written.

    Args:
        routes: as given to `Idempotency`; beside `DEFAULTS`, which they may overrule.

    Raises:
        RegistrationError: a route cannot be understood.
    """

    def __init__(self, routes: Mapping[str, str]) -> None:
        rules = [Rule.of(text, need) for text, need in {**DEFAULTS, **routes}.items()]
        self.all = sorted(rules, key=lambda rule: rule.pattern is None)

    def find(self, method: str, path: str) -> tuple[Rule, Mapping[str, str]] | None:
        """Return the rule for a request and what its `{parameters}` are; `None` where it passes as it is."""
        for rule in self.all:
            if rule.method != method:
                continue
            if rule.pattern is None:
                found: Mapping[str, str] = {}
            else:
                match = rule.pattern.fullmatch(path)
                if match is None:
                    continue
                found = match.groupdict()
            return None if rule.need == "off" else (rule, found)
        return None

    def guarded(self) -> Iterable[Rule]:
        """Return the rules that guard."""
        return [rule for rule in self.all if rule.need != "off"]


def path_of(scope: Scope) -> str:
    """Return the path below the prefix that the application is mounted under, as frameworks route it."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    if root and (path == root or path.startswith(f"{root}/")):
        return path[len(root) :] or "/"
    return path


def _compiled(where: str, path: str) -> re.Pattern[str]:
    text, end = "", 0
    names: set[str] = set()
    for found in _PARAMETER.finditer(path):
        name, kind = found.groups()
        if name in names:
            raise RegistrationError(f"{where}: has two parameters {{{name}}}")
        names.add(name)
        text += f"{re.escape(path[end : found.start()])}(?P<{name}>{_KINDS.get(kind or '', '[^/]+')})"
        end = found.end()
    rest = path[end:]
    if set(re.sub(_PARAMETER, "", path)) & {"{", "}"}:
        raise RegistrationError(f"{where}: has a brace that is no parameter; write {{name}}")
    return re.compile(text + re.escape(rest), re.DOTALL)
