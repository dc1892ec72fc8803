"""One server in a process of its own, until its stdin ends: `python -m bench.web.site NAME STORE`."""

from __future__ import annotations

import asyncio
import gc
import os
import sys

from bench.web.sites import HOOK_SECRET, SITES
from consumer.http.server import listening


async def main(name: str, store: str) -> None:
    """Serve; the port is the line said."""
    os.environ["BENCH_SECRET"] = HOOK_SECRET
    async with SITES[name](store) as app, listening(app, "127.0.0.1", 0, grace=1) as address:
        gc.freeze()
        print(address.rpartition(":")[2], flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
