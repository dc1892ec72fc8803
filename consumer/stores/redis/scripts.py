"""The scripts: what is in `lua/`, put together of the parts that each verb needs."""

from __future__ import annotations

import hashlib
from importlib.resources import files

__all__ = ["Script"]


class Script:
    """A Lua script. Its parts are read from `lua/`, in order; `bucket` begins each.

    Args:
        parts: names without `.lua`; the last one is the verb.
    """

    __slots__ = ("name", "sha", "text")

    def __init__(self, *parts: str) -> None:
        folder = files(__package__ or "") / "lua"
        self.name = parts[-1]
        self.text = "\n".join((folder / f"{part}.lua").read_text("utf-8") for part in ("bucket", *parts))
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def __repr__(self) -> str:
        return f"Script({self.name})"
