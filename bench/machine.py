"""What the figures were measured on: without it they say nothing."""

from __future__ import annotations

import os
import platform
import statistics
import time
from pathlib import Path

import asyncpg

from tests.services import Kafka, Postgres

__all__ = ["described"]


async def described(postgres: Postgres, kafka: Kafka) -> str:
    """Return a line about the machine and the servers, the price of a small commit included."""
    connection = await asyncpg.connect(postgres.url)
    try:
        version = await connection.fetchval("show server_version")
        fsync = await connection.fetchval("show fsync")
        commit = await _commit_time(connection)
    finally:
        await connection.close()
    return (
        f"{os.cpu_count()} × {_processor()}; Python {platform.python_version()}; PostgreSQL {version}, fsync {fsync}, "
        f"a commit takes {commit * 1000:.2f} ms; {kafka.origin}; load average {os.getloadavg()[0]:.1f}"
    )


async def _commit_time(connection: asyncpg.Connection) -> float:
    await connection.execute("create table if not exists commit_time (n integer)")
    times = []
    for number in range(200):
        began = time.perf_counter()
        await connection.execute("insert into commit_time values ($1)", number)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
