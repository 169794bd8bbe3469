"""What it costs to open a connection through the engine with peers.

The servers are one real PostgreSQL server under several aliases, so that whatever is measured
opens the same connection: by Django's own engine, by the same again, which shows how much noise is
left, by the balancing engine over three peers, and by it over three of which one is dead, after the
first attempt has found that. Everything runs in one process, by turns in an order that is shuffled
anew in each round, and time is the wall's, because most of it is the server's. What interrupts one
connection out of many is left out of the median as long as each is timed alone: a batch is one
connection, opened and closed, or some tens of queries on a connection that stays open.
"""

import random
import time
from collections.abc import Callable
from timeit import Timer
from typing import Any

import django
from django.conf import settings

from servers.ports import free_port
from servers.postgres import Cluster

from .measure import SEED, Ratio, Seconds, Target, at_most, command_line, report, rows_of

PLAIN, AGAIN = "Django's engine", "Django's engine, again"
BALANCED, ONE_DEAD = "three peers", "three peers, one of them dead"
ALIASES = {PLAIN: "plain", AGAIN: "again", BALANCED: "balanced", ONE_DEAD: "one_dead"}
CONNECTING, QUERYING = "a new connection", "a query on an open connection"
CALLS = {CONNECTING: 1, QUERYING: 20}
LIMIT = 1.03


def main() -> int:
    arguments = command_line(__doc__ or "", rounds=2000)
    began = time.monotonic()
    with Cluster(standbys=0) as cluster:
        _set_up(cluster.leader.django_database())
        seconds = _measured(arguments.rounds)
    rows = rows_of(seconds)
    return report(rows, _targets(seconds), arguments.json, began)


def _set_up(server: dict[str, Any]) -> None:
    dead = {**server, "PORT": str(free_port())}
    peers = {"one": server, "two": server, "three": server, "dead": dead}
    settings.configure(
        DATABASES={
            "default": server,
            "plain": server,
            "again": server,
            **{name: {**entry} for name, entry in peers.items()},
            "balanced": _over("one", "two", "three"),
            "one_dead": _over("one", "two", "dead"),
        },
        USE_TZ=True,
    )
    django.setup()


def _over(*peers: str) -> dict[str, Any]:
    return {
        "ENGINE": "django_replicas.backends.balanced",
        "PEERS": list(peers),
        "CHECK_INTERVAL": 3600,
    }


def _measured(rounds: int) -> Seconds:
    from django.db import connections  # noqa: PLC0415 - needs the settings

    opened = {name: connections[alias] for name, alias in ALIASES.items()}
    seconds: Seconds = {}
    for scenario, act in ((CONNECTING, _connect), (QUERYING, _query)):
        timers = {name: Timer(act(connection)) for name, connection in opened.items()}
        seconds[scenario] = _by_turns(timers, CALLS[scenario], rounds)
    return seconds


def _connect(connection: Any) -> Callable[[], None]:
    def act() -> None:
        connection.connect()
        connection.close()

    return act


def _query(connection: Any) -> Callable[[], None]:
    connection.ensure_connection()

    def act() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()

    return act


def _by_turns(timers: dict[str, Timer], calls: int, rounds: int) -> dict[str, list[float]]:
    shuffle = random.Random(SEED).shuffle
    order = list(timers)
    for name in order:
        # Every peer has been connected to by then, and the dead one found.
        timers[name].timeit(50)
    seconds: dict[str, list[float]] = {name: [] for name in order}
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            seconds[name].append(timers[name].timeit(calls) / calls)
    return seconds


def _targets(seconds: Seconds) -> list[Target]:
    return [
        at_most(
            f"{scenario} through {name}: median within 3 % of {PLAIN}'s",
            Ratio.between(seconds[scenario][name], seconds[scenario][PLAIN]),
            LIMIT,
        )
        for scenario in CALLS
        for name in (BALANCED, ONE_DEAD)
    ]


if __name__ == "__main__":
    raise SystemExit(main())
