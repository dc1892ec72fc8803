"""aiokafka's loggers, made bearable: with a broker away they write ten lines a second, the same ones for hours."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

__all__ = ["Calm", "calm_loggers"]

_NOISY = (
    "aiokafka",
    "aiokafka.cluster",
    "aiokafka.conn",
    "aiokafka.consumer.consumer",
    "aiokafka.consumer.fetcher",
    "aiokafka.consumer.group_coordinator",
    "aiokafka.producer.producer",
    "aiokafka.producer.sender",
)
_MANY = 1_000


class Calm(logging.Filter):
    """Lets one record of each wording pass per `interval` seconds and counts what it kept back.

    Records with a traceback always pass: they are the unexpected ones.
    """

    def __init__(self, interval: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._interval = interval
        self._clock = clock
        self._last: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record may be written."""
        if record.exc_info:
            return True
        wording, now = (record.name, str(record.msg)), self._clock()
        before, kept_back = self._last.get(wording, (float("-inf"), 0))
        if now - before < self._interval:
            self._last[wording] = (before, kept_back + 1)
            return False
        if len(self._last) >= _MANY:
            self._last.clear()
        self._last[wording] = (now, 0)
        if kept_back:
            record.msg = f"{record.msg} (and {kept_back} like it before)"
        return True


def calm_loggers() -> None:
    """Install `Calm` on aiokafka's loggers, once, and hide their INFO lines unless somebody has set a level there.

    Where the root hides more (a verb that says itself what is wrong, in one line), that holds for them too.
    """
    root = logging.getLogger("aiokafka")
    if root.getEffectiveLevel() < logging.WARNING and root.level == logging.NOTSET:
        root.setLevel(logging.WARNING)
    for name in _NOISY:  # a filter does not apply to the records of loggers below
        logger = logging.getLogger(name)
        if not any(isinstance(known, Calm) for known in logger.filters):
            logger.addFilter(Calm())
