"""What an orchestrator asks of a process: does it hang, can it take work, has it begun. Never asks store or broker."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from consumer.observe.watch import LoopWatch
from consumer.worker.wiring import Runtime

__all__ = ["PATHS", "Health", "Told"]

Told = tuple[int, str, bytes]
"""HTTP status, content type, body."""

PATHS = ("/livez", "/readyz", "/startupz", "/metrics")


class _Body(msgspec.Struct, omit_defaults=True):
    status: str
    reasons: Sequence[str] = ()


class Health:
    """Answers for one process; every method may be called by any thread.

    - `/livez` fails where only a new process helps: the event loop is held for longer than a limit, or a part of the
      worker has ended by a bug. A store or broker that is away is never a reason: restarting would not bring it back.
    - `/readyz` fails where work cannot be taken now, for those reasons and for store and broker, as this process has noticed
      their absence by itself.
    - `/startupz` fails until the event loop runs.

    Args:
        watch: the event loop's.
        limit: seconds that the event loop may be held.
        metrics: renders `/metrics`.
    """

    def __init__(self, watch: LoopWatch, limit: float, metrics: Callable[[], Told]) -> None:
        self._watch = watch
        self._limit = limit
        self._metrics = metrics
        self.runtime: Runtime | None = None

    def answer(self, path: str, more: Sequence[str] = ()) -> Told:
        """Return status, content type and body.

        Args:
            path: one of `PATHS`; any other is 404.
            more: reasons that the caller knows why work cannot be taken now.
        """
        match path:
            case "/livez":
                return _told("alive", "hangs", self.hung())
            case "/readyz":
                return _told("ready", "not ready", [*self.troubles(), *more])
            case "/startupz":
                begun = self._watch.ticks
                return _told("started", "starting", [] if begun else ["the event loop does not run yet"])
            case "/metrics":
                return self._metrics()
            case _:
                body = msgspec.json.encode({"status": "not found", "paths": PATHS})
                return 404, "application/json", body

    def hung(self) -> list[str]:
        """Why only a new process helps; empty where it lives."""
        held = self._watch.held
        reasons = [f"the event loop has been held for {held:.0f} s"] if held >= self._limit else []
        return reasons if self.runtime is None else [*reasons, *self.runtime.dead()]

    def troubles(self) -> list[str]:
        """Why no work can be taken now; empty where it can."""
        if self.runtime is None:
            return [*self.hung(), "it is not open: it waits for its store or its broker, or it ends"]
        return [*self.hung(), *self.runtime.troubles()]


def _told(well: str, ill: str, reasons: Sequence[str]) -> Told:
    body = _Body(ill, reasons) if reasons else _Body(well)
    return 503 if reasons else 200, "application/json", msgspec.json.encode(body)
