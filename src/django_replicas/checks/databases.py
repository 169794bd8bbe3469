"""Are leaders and followers configured so that routing between them can work, seen offline."""

import os
from collections.abc import Iterator
from inspect import signature
from typing import Any

from django.core.checks import CheckMessage, register
from django.db import connections

from django_replicas.conf import get_sound_config
from django_replicas.own_connections import OVER_A_NETWORK, connect_timeout_of
from django_replicas.peers import has_peers

from .members import Pair, leaders, options_of, pairs, settings_of, vendor_of
from .messages import error, warning

# Each of these options, or variables of libpq, may bring a timeout that is not seen from here.
TOLD_ELSEWHERE = ("service", "conninfo", "dsn", "read_default_file", "read_default_group")
TOLD_BY_ENVIRONMENT = ("PGCONNECT_TIMEOUT", "PGSERVICE")


@register
def check_databases(**kwargs: Any) -> list[CheckMessage]:
    """Report what is wrong, or dangerous, in the members' entries in ``DATABASES``."""
    messages = [*_atomic_leaders(), *_limits_in_bytes()]
    for pair in pairs():
        messages += [
            *_different_engines(pair),
            *_atomic_follower(pair),
            *_not_mirrored(pair),
            *_slow_connecting(pair),
            *_unchecked_connections(pair),
        ]
    return messages


def _atomic_leaders() -> Iterator[CheckMessage]:
    for alias in leaders():
        value = settings_of(alias)["ATOMIC_REQUESTS"]
        # An object of another kind may be true for some requests only.
        if isinstance(value, int | str) and value:
            yield warning(
                "W001",
                f"ATOMIC_REQUESTS is on for {alias!r}, so that every view reads the leader.",
                "Set it to django_replicas.atomic_in_leader_role, or turn it off and open "
                "transactions with atomic() where there are writes.",
            )


def _limits_in_bytes() -> Iterator[CheckMessage]:
    for alias in leaders():
        limit = get_sound_config().topology.by_leader[alias].max_lag
        if limit is not None and limit.bytes is not None and vendor_of(alias) == "mysql":
            yield error(
                "E010",
                f"MAX_LAG is in bytes for the set of {alias!r}, whose lag is not known in bytes: "
                "all its followers are passed over.",
                "Give it as a number of seconds.",
            )


def _different_engines(pair: Pair) -> Iterator[CheckMessage]:
    vendor, leaders_vendor = map(vendor_of, pair)
    if None in (vendor, leaders_vendor):
        return
    if vendor != leaders_vendor:
        difference = f"is {vendor}, while its leader {pair.leader!r} is {leaders_vendor}"
    elif _is_spatial(pair.leader) and not _is_spatial(pair.follower):
        difference = f"has no spatial engine, while its leader {pair.leader!r} has one"
    else:
        return
    yield error(
        "E004",
        f"The follower {pair.follower!r} {difference}.",
        "Give both the same ENGINE, or take the follower out of the set.",
    )


def _is_spatial(alias: str) -> bool:
    return connections[alias].features.gis_enabled


def _atomic_follower(pair: Pair) -> Iterator[CheckMessage]:
    # What is false here may be true in a request.
    if settings_of(pair.follower)["ATOMIC_REQUESTS"] not in (False, None):
        yield warning(
            "W002",
            f"ATOMIC_REQUESTS is on for the follower {pair.follower!r}, so that every view "
            "connects to it, and fails while it is down.",
            "Turn it off: nothing is written there.",
        )


def _not_mirrored(pair: Pair) -> Iterator[CheckMessage]:
    if settings_of(pair.follower)["TEST"]["MIRROR"] != pair.leader:
        yield warning(
            "W003",
            f"In tests the follower {pair.follower!r} gets an empty database of its own.",
            f'Add "TEST": {{"MIRROR": {pair.leader!r}}} to its entry in DATABASES.',
        )


def _slow_connecting(pair: Pair) -> Iterator[CheckMessage]:
    if has_peers(pair.follower):  # W021 says it of them.
        return
    if vendor_of(pair.follower) not in OVER_A_NETWORK or may_time_out(pair.follower):
        return
    seconds = _drivers_timeout(pair.follower)
    if seconds is None:
        limit, wait = "has no time limit", "for minutes"
    else:
        limit, wait = f"may take the {seconds:g} seconds that its driver allows", "that long"
    yield warning(
        "W004",
        f"Connecting to the follower {pair.follower!r} {limit}: while its machine does not answer, "
        f"requests wait {wait}.",
        'Add "connect_timeout": 2 to the OPTIONS of its entry in DATABASES.',
    )


def _drivers_timeout(alias: str) -> float | None:
    """Return the seconds that the driver takes by itself, as PyMySQL does, None if it has none."""
    if "connect_timeout" in options_of(alias):
        return None
    connection: Any = connections[alias]
    parameters = signature(connection.Database.connect).parameters
    default = parameters["connect_timeout"].default if "connect_timeout" in parameters else None
    return default if isinstance(default, int | float) else None


def may_time_out(alias: str) -> bool:
    """Tell whether something limits how long connecting takes, as far as can be seen."""
    options = options_of(alias)
    if "connect_timeout" in options:
        return connect_timeout_of(alias) is not None
    variables = TOLD_BY_ENVIRONMENT if vendor_of(alias) == "postgresql" else ()
    return any(map(options.get, TOLD_ELSEWHERE)) or any(map(os.environ.get, variables))


def _unchecked_connections(pair: Pair) -> Iterator[CheckMessage]:
    settings = settings_of(pair.follower)
    persistent = settings["CONN_MAX_AGE"] != 0 or options_of(pair.follower).get("pool")
    on_a_network = vendor_of(pair.follower) in OVER_A_NETWORK
    if on_a_network and persistent and not settings["CONN_HEALTH_CHECKS"]:
        yield warning(
            "W005",
            f"Connections to the follower {pair.follower!r} outlive requests and are not checked: "
            "once it has restarted, the first reads on them fail.",
            'Add "CONN_HEALTH_CHECKS": True to its entry in DATABASES.',
        )
