"""The whole reference application; it needs an SQL store, because its payments are Transactional."""

from __future__ import annotations

from consumer import App
from handlers import notify, payments

__all__ = ["app"]

app = App("shop", payments.handlers, notify.handlers)
app.schema(postgres=payments.POSTGRES, sqlite=payments.SQLITE)
