"""What happens to the workers and the servers while messages are sent."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Protocol

from tests.acceptance.shop import Shop
from tests.storm.plan import BROKER, DATABASE, WORKERS, Blow, Plan, blows

__all__ = ["Restartable", "Weather"]

Worker = subprocess.Popen[str]


class Restartable(Protocol):
    """A server that can be taken away and given back."""

    def stop(self) -> None: ...

    def start(self) -> None: ...


class Weather:
    """Carries out a plan's blows, and counts them.

    Args:
        plan: the storm.
        shop: whose workers are hurt.
        broker, database: restarted once each.
        say: told each blow.
    """

    def __init__(
        self,
        plan: Plan,
        shop: Shop,
        broker: Restartable,
        database: Restartable,
        say: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._shop = shop
        self._servers = {BROKER: broker, DATABASE: database}
        self._say = say
        self._live: list[Worker] = []
        self._asleep: set[Worker] = set()
        self._pauses: set[asyncio.Task[None]] = set()
        self.kills = 0
        self.pauses = 0
        self.lapses = 0
        self.restarts = 0
        self.faults: list[str] = []

    async def blow(self) -> None:
        """From one worker to one worker; returns when the last blow has fallen and every pause has ended."""
        began = time.monotonic()
        self._start()
        for blow in blows(self._plan):
            await asyncio.sleep(max(0.0, began + blow.at - time.monotonic()))  # the plan's own time
            self._look()
            await self._strike(blow)
        await asyncio.gather(*self._pauses)

    async def end(self) -> None:
        """An orderly end of those that are left."""
        self._look()
        await self._dismiss(0)

    async def _strike(self, blow: Blow) -> None:
        match blow.what:
            case "kill":
                self._kill(self._drawn(blow.dice))
            case "pause":
                self._pause(self._drawn(blow.dice), blow.length)
            case "broker" | "database":
                self._say(f"{blow.at:6.1f} s  {blow.what} restarts")
                self.restarts += 1
                await asyncio.to_thread(self._servers[blow.what].stop)
                await asyncio.to_thread(self._servers[blow.what].start)
            case "grow":
                self._say(f"{blow.at:6.1f} s  1 -> {WORKERS} workers")
                while len(self._live) < WORKERS:
                    self._start()
            case _:
                self._say(f"{blow.at:6.1f} s  {WORKERS} -> 1 worker")
                await asyncio.gather(*self._pauses)
                await self._dismiss(1)

    def _start(self) -> None:
        self._live.append(self._shop.begin("--group", "storm", "--worker-ttl", str(self._plan.ttl)))

    def _drawn(self, dice: float) -> Worker:
        return self._live[int(dice * len(self._live))]

    def _kill(self, worker: Worker) -> None:
        self._say(f"          SIGKILL {worker.pid}")
        self.kills += 1
        self._live.remove(worker)
        self._asleep.discard(worker)
        self._shop.kill(worker)
        self._start()

    def _pause(self, worker: Worker, seconds: float) -> None:
        if worker in self._asleep:
            return
        self._say(f"          SIGSTOP {worker.pid} for {seconds:.1f} s")
        self.pauses += 1
        self.lapses += (
            seconds > self._plan.ttl * 0.7
        )  # nearly the time-to-live: what runs is given up already
        self._asleep.add(worker)
        worker.send_signal(signal.SIGSTOP)

        async def later() -> None:
            await asyncio.sleep(seconds)  # the pause's own length
            if worker in self._asleep:
                self._asleep.discard(worker)
                worker.send_signal(signal.SIGCONT)

        self._pauses.add(task := asyncio.get_running_loop().create_task(later()))
        task.add_done_callback(self._pauses.discard)

    def _look(self) -> None:
        """A worker that ended by itself is a fault; another takes its place."""
        for worker in [each for each in self._live if each.poll() is not None]:
            self._live.remove(worker)
            self.faults.append(f"a worker ended by itself, exit {worker.returncode}: {self._tail(worker)}")
            self._start()

    async def _dismiss(self, left: int) -> None:
        """End all but `left` at once, with SIGTERM; not to be clean then is a fault."""
        going, self._live = self._live[left:], self._live[:left]
        codes = await asyncio.gather(*(asyncio.to_thread(self._end, each) for each in going))
        for worker, code in zip(going, codes, strict=True):
            if code:
                self.faults.append(f"exit {code} after SIGTERM: {self._tail(worker)}")

    def _end(self, worker: Worker) -> int | None:
        """SIGTERM, once it listens: one that comes while Python starts ends it by itself, before there is anything to drain."""
        assert worker.stdout is not None
        worker.stdout.readline()  # `ready`; nobody else reads it
        return self._shop.terminate(worker, 90)

    def _tail(self, worker: Worker) -> str:
        return self._shop.log_of(worker)[-1500:]
