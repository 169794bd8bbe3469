"""What following a cluster costs a cache, against Django's own backends given the same nodes.

Each contender has the same client with the same options, on the same real memcached nodes; Django's
are told the nodes, ours find them through an endpoint that stands on a thread of this process.
Seconds are the wall's, because a call is mostly waiting for a node. Clients and nodes share one
core: on two it is the scheduler's choice whether a call wakes a sleeping one, which doubles its
time for whole processes. For the same reason all have the same keys, on the same nodes. That
discovery adds no call to a request path is no time but a count: of what the endpoint was asked.
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from timeit import Timer
from typing import Any

from django.conf import settings
from django.core.cache import caches

from servers.configuration_endpoint import ConfigurationEndpoint
from servers.memcached import Memcached

from .contenders import Contender
from .measure import (
    Answers,
    Ratio,
    Seconds,
    Target,
    at_most,
    command_line,
    measure,
    report,
    rows_of,
    seconds_per_call,
)

NODES = 2
GENERATIONS = 5
LIMIT = 1.05
PYLIBMC = {
    "binary": True,
    "behaviors": {"tcp_nodelay": True, "ketama": True, "_poll_timeout": 2000},
}
PYMEMCACHE = {"no_delay": True, "connect_timeout": 2.0, "timeout": 2.0}
DJANGO = "django.core.cache.backends.memcached."
OURS = "django_replicas.cache.elasticache."

CLIENTS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "pylibmc": ("PyLibMCCache", "ElastiCache", PYLIBMC),
    "pymemcache": ("PyMemcacheCache", "PyMemcacheElastiCache", PYMEMCACHE),
}
CALLS = {
    "get": 'cache.get("key")',
    "set": 'cache.set("key", "value")',
    "get_many of 100": "cache.get_many(keys)",
}


def main() -> int:
    arguments = command_line(__doc__ or "", rounds=60)
    began = time.monotonic()
    _stay_on_one_core()
    with ExitStack() as undo:
        nodes = [undo.enter_context(Memcached()).location for _ in range(NODES)]
        endpoint = undo.enter_context(ConfigurationEndpoint())
        endpoint.name(nodes)
        seconds: Seconds = {}
        for client in CLIENTS:
            seconds |= _measured(client, nodes, endpoint.location, arguments.rounds)
        asked = len(endpoint.commands)
    targets = [_within(seconds, scenario) for scenario in seconds]
    targets.append(_asked_once(asked, time.monotonic() - began))
    return report(rows_of(seconds), targets, arguments.json, began)


def _stay_on_one_core() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def _measured(client: str, nodes: Sequence[str], endpoint: str, rounds: int) -> Seconds:
    plain, ours, _ = CLIENTS[client]
    contenders = [Contender(name) for name in (plain, _again(plain), ours)]
    names = [contender.name for contender in contenders]
    scenarios = {f"{call}, {client}": names for call in CALLS}
    prepared = partial(prepare, client, nodes, endpoint)
    return measure(prepared, contenders, scenarios, rounds, GENERATIONS)


def _again(plain: str) -> str:
    return f"{plain}, again"


def _within(seconds: Seconds, scenario: str) -> Target:
    by_name = seconds[scenario]
    plain, _, ours = by_name
    ratio = Ratio.between(by_name[ours], by_name[plain])
    return at_most(f"{scenario}: {ours} within 5 % of {plain}", ratio, LIMIT)


def _asked_once(commands: int, seconds: float) -> Target:
    # Two commands make a list; each of our processes needs one, and one more for every interval.
    processes = GENERATIONS * len(CLIENTS)
    most = 2 * (processes + round(seconds / 45))
    return Target(
        "the endpoint is asked once by each process and interval, whatever the calls",
        f"{commands} commands, {processes} processes",
        commands <= most,
    )


# In a contender's process


def prepare(
    client: str, nodes: Sequence[str], endpoint: str, contender: Contender, folder: Path
) -> Answers:
    """Configure the contender's cache, fill it, and return how to time each call."""
    plain, ours, options = CLIENTS[client]
    told = contender.name != ours
    settings.configure(
        CACHES={
            "default": {
                "BACKEND": DJANGO + plain if told else OURS + ours,
                "LOCATION": list(nodes) if told else endpoint,
                "OPTIONS": options,
            }
        }
    )
    cache = caches["default"]
    keys = [f"key{number}" for number in range(100)]
    cache.set_many(dict.fromkeys([*keys, "key"], "value"))
    names = {"cache": cache, "keys": keys}
    return {
        f"{call}, {client}": partial(seconds_per_call, Timer(statement, globals=names))
        for call, statement in CALLS.items()
    }


if __name__ == "__main__":
    sys.exit(main())
