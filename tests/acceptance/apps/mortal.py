"""The reference application, which dies between a commit and its answer: once the file that SHOP_DIE names is there."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from consumer.http.endpoint import EndpointApp
from consumer.http.hooks import WebhookApp
from handlers.app import app

__all__ = ["app"]


def die_when_told() -> None:
    switch = Path(os.environ["SHOP_DIE"])
    if switch.exists():
        switch.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def dies_before_it_answers(kind: type[EndpointApp | WebhookApp]) -> None:
    known = kind._answer

    async def answer(self, desk, scope, receive):
        result = await known(self, desk, scope, receive)
        die_when_told()
        return result

    kind._answer = answer  # type: ignore[method-assign]


dies_before_it_answers(EndpointApp)
dies_before_it_answers(WebhookApp)
