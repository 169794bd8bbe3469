"""One history: servers, crews, weather, and what their clients found."""

import random
import threading
import time
from collections import Counter
from contextlib import ExitStack
from itertools import count

from .clients import Survivors
from .crews import WAYS, Crew
from .weather import Weather
from .worlds import MariaDBWorld, PostgresWorld

LAST_JOBS = 0.3
COUNTERS = [counter for way in WAYS for counter in way.counters]


class History:
    """Several crews on the same servers, under the same faults, at the same time.

    It lasts so many seconds, and as many again while it *goes_on*.
    """

    def __init__(self, kind, seed, seconds, ways=WAYS, goes_on=lambda history: False):
        self.kind = kind
        self.seed = seed
        self.seconds = seconds
        self.ways = ways
        self.crews = []
        self.faults = Counter()
        self.lost = 0
        chance = random.Random(f"{seed}/{kind}/settings")
        self.settings = {
            "CONN_MAX_AGE": chance.choice([None, None, None, 0]),
            "CONN_HEALTH_CHECKS": True,
        }
        self.replicas = {
            "DOWNTIME": 0.5,
            "CHECK_TIMEOUT": 0.3,
            "CHECK_INTERVAL": chance.choice([0.5, 10]),
            "BALANCE": chance.choice(["random", "round_robin"]),
        }
        self._survivors = Survivors()
        self._disruptions = []
        self._goes_on = goes_on
        self._days = count()
        self._end = threading.Event()

    def run(self):
        """Let it happen; raises what went wrong with the checker itself."""
        with KINDS[self.kind](COUNTERS) as world, ExitStack() as undo:
            databases = world.databases(**self.settings)
            for way in self.ways:
                crew = Crew(way, databases, self.replicas, may_lose_leader="failover" in self.kind)
                self.crews.append(undo.enter_context(crew))
            for crew in self.crews:
                crew.wait_until_ready()
            self._happen(world)
        return self

    def _happen(self, world):
        judges = [crew.judge_of_jobs(self._survivors) for crew in self.crews]
        clients = [
            client
            for crew in self.crews
            for client in crew.clients(self.seed, self._survivors, self._end.is_set)
        ]
        for thread in [*judges, *clients]:
            thread.start()
        try:
            self._blow(world)
            while self._goes_on(self):
                self._let_blow(world, self.seconds)
        finally:
            self._end.set()
            for client in clients:
                client.join()
            time.sleep(LAST_JOBS)
            for judge in judges:
                judge.end()
        problems = [client.problem for client in clients if client.problem]
        if problems:
            raise ExceptionGroup(f"clients of {self}", problems)
        for crew in self.crews:
            crew.verdicts.excuse(self._disruptions)
        self.lost = sum(self._survivors.lost(each.written, each.owner) for each in clients)

    def _blow(self, world):
        if "failover" not in self.kind:
            return self._let_blow(world, self.seconds)
        self._let_blow(world, self.seconds / 2)
        began = time.monotonic()
        lost = world.fail_over(self._survivors)
        self._disruptions.append((began, time.monotonic()))
        self.faults[f"loss of the {lost}"] += 1
        self._let_blow(world, self.seconds / 2)

    def _let_blow(self, world, seconds):
        weather = Weather(f"{self.seed}/{next(self._days)}", world.faults())
        try:
            weather.blow(seconds)
        finally:
            self.faults.update(weather.seen)
            self._disruptions += weather.disruptions

    def verdicts_of(self, way):
        return next(crew.verdicts for crew in self.crews if crew.way is way)

    def __str__(self):
        return f"{self.kind}, seed {self.seed}, {self.seconds:g} s"

    def report(self):
        """Return what was found, as lines of text."""
        settings = ", ".join(f"{key} {value}" for key, value in self.replicas.items())
        faults = ", ".join(f"{name} {number}" for name, number in self.faults.items())
        lines = [str(self), f"  {settings}, CONN_MAX_AGE {self.settings['CONN_MAX_AGE']}"]
        lines.append(f"  faults: {faults}")
        lines += [f"  {crew.verdicts}" for crew in self.crews]
        if "failover" in self.kind:
            lines.append(f"  commits lost with the leader, counted apart: {self.lost}")
        return "\n".join(lines)


KINDS = {
    "postgresql-16": lambda counters: PostgresWorld(16, counters),
    "postgresql-18": lambda counters: PostgresWorld(18, counters),
    "postgresql-16-failover": lambda counters: PostgresWorld(16, counters),
    "postgresql-18-failover": lambda counters: PostgresWorld(18, counters),
    "postgresql-18-asynchronous": lambda counters: PostgresWorld(
        18, counters, options="-c synchronous_commit=off"
    ),
    "mariadb": MariaDBWorld,
}
