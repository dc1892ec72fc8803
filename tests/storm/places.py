"""Where a storm takes place: the reference application on Kafka with Postgres, or its subscriptions with Redis."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Protocol

from tests.acceptance.shop import Shop, rows

__all__ = ["OnPostgres", "OnRedis", "Place"]


class Place(Protocol):
    """A deployment, and what is to be seen of it from outside.

    Attributes:
        shop: its processes.
        store: the store's URL.
        name: the app's name.
        topic: where messages are sent.
        telling: the handler that writes the effects file, and its topic.
        field: of a message, its key.
    """

    shop: Shop
    store: str
    name: str
    topic: str
    telling: str
    field: str

    def value(self, number: int) -> bytes:
        """Message `number`; the same number, the same bytes."""
        ...

    async def effects(self) -> list[Counter[str]]:
        """How often each key took effect, one count per kind of effect."""
        ...


class OnPostgres:
    """Payments: a row in the ledger and an announcement in one commit; whoever hears it tells the payer, once."""

    name, topic, telling, field = "shop", "payments.requested", "payments.settled", "payment_id"

    def __init__(self, folder: Path, store: str, bootstrap: str) -> None:
        self.store = store
        self.shop = Shop(folder, store=store, broker=f"kafka://{bootstrap}")

    def value(self, number: int) -> bytes:
        """See `Place`."""
        payment = {"payment_id": f"p-{number}", "account": f"acc-{number % 200}", "amount": number + 1}
        return json.dumps(payment | {"currency": "EUR"}).encode()

    async def effects(self) -> list[Counter[str]]:
        """See `Place`."""
        ledger = Counter({row[0]: row[1] for row in await rows(self.store, _LEDGER)})
        return [ledger, Counter(line["key"] for line in self.shop.lines())]


_LEDGER = "select payment_id, count(*) from ledger group by payment_id"


class OnRedis:
    """Notifications: started at most once."""

    name, topic, telling, field = "notify", "notifications.send", "notifications.send", "notification_id"

    def __init__(self, folder: Path, store: str, bootstrap: str) -> None:
        self.store = store
        self.shop = Shop(folder, store=store, broker=f"kafka://{bootstrap}", app="handlers.notify:app")

    def value(self, number: int) -> bytes:
        """See `Place`."""
        return json.dumps({"notification_id": f"n-{number}", "to": "a@b.example", "text": "hello"}).encode()

    async def effects(self) -> list[Counter[str]]:
        """See `Place`."""
        return [Counter(line["key"] for line in self.shop.lines())]
