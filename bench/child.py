"""One run of one contestant in a process of its own: prints what it measured as JSON on its last line."""

from __future__ import annotations

import asyncio
import cProfile
import gc
import logging
import pstats
import sys

import msgspec

from bench.contestants import CONTESTANTS

__all__ = ["main"]


def main(name: str, store: str, bootstrap: str, topic: str, messages: str, *profile: str) -> None:
    """Run it.

    Args:
        name: of the contestant.
        store: the URL of a fresh database with the contestant's tables.
        bootstrap: Kafka's address.
        topic: the preloaded topic.
        messages: how many are in it.
        *profile: `tottime` or `cumulative`: run under cProfile and print what took longest.
    """
    logging.getLogger("aiokafka").setLevel(
        logging.CRITICAL
    )  # a broker that has just begun is asked once more
    running = CONTESTANTS[name].run(store, bootstrap, topic, int(messages))
    gc.freeze()
    if profile:
        profiler = cProfile.Profile()
        with profiler:
            measured = asyncio.run(running)
        pstats.Stats(profiler, stream=sys.stdout).sort_stats(*profile).print_stats(60)
    else:
        measured = asyncio.run(running)
    print(msgspec.json.encode(measured).decode())


if __name__ == "__main__":
    main(*sys.argv[1:])
