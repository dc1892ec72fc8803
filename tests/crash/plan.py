"""What a crash test tells its victim, and the files by which the victim's deeds outlive it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from msgspec import Struct

__all__ = ["ACK", "AFTER_CLAIM", "AFTER_COMMIT", "BEFORE_CLAIM", "BEFORE_COMMIT", "HANDLER", "POINTS", "Plan"]

BEFORE_CLAIM, AFTER_CLAIM, HANDLER = "before claim", "after claim", "in the handler"
BEFORE_COMMIT, AFTER_COMMIT, ACK = "before commit", "after commit", "before ack"
POINTS = (BEFORE_CLAIM, AFTER_CLAIM, HANDLER, BEFORE_COMMIT, AFTER_COMMIT, ACK)


class Plan(Struct, frozen=True):
    """One process of the victim app.

    Attributes:
        url: the store.
        folder: where `effects`, `acks` and `published` are; every process of the test appends to the same files.
        mode: `Transactional`, `AtMostOnce` or `AtLeastOnce`.
        keys: what the source holds, one message each.
        point: where the process kills itself; `None`: nowhere.
        nth: the how-manieth time it comes there.
        poison: the key whose handler kills the process whenever it is started.
        slots: of this process.
        batch: deliveries per poll.
    """

    url: str
    folder: str
    mode: str
    keys: tuple[str, ...]
    point: str | None = None
    nth: int = 2
    poison: str | None = None
    slots: int = 3
    batch: int = 4

    def note(self, file: str, **line: Any) -> None:
        """Append a line that survives a SIGKILL the moment after."""
        handle = os.open(Path(self.folder) / file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, json.dumps(line).encode() + b"\n")
        finally:
            os.close(handle)

    def noted(self, file: str) -> list[dict[str, Any]]:
        """The lines of a file, oldest first."""
        path = Path(self.folder) / file
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
