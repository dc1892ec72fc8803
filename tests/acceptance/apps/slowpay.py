"""An application whose one endpoint takes as long as the request says, or for ever."""

from __future__ import annotations

import asyncio

from msgspec import Struct

from consumer import App, AtMostOnce, Key
from consumer.http import single_tenant

app = App("slowpay")


class Ask(Struct):
    id: str
    seconds: float


@app.on("asks", key=Key.field("id"), mode=AtMostOnce(), same=("seconds",), timeout=600)
async def answer(ask: Ask) -> dict[str, str]:
    print(f"began {ask.id}", flush=True)
    await asyncio.sleep(ask.seconds)
    return {"id": ask.id}


app.endpoint("POST", "/asks", answer, tenant=single_tenant)
