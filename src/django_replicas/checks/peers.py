"""Aliases with peers: are the peers what they should be, seen offline."""

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, register
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from django_replicas.backends.balanced.engines import wrong_peers
from django_replicas.own_connections import OVER_A_NETWORK
from django_replicas.peers import has_peers

from .databases import may_time_out
from .members import options_of, settings_of, vendor_of
from .messages import error, warning

PEERS_OWN = ("USER", "PASSWORD", "HOST", "PORT", "OPTIONS", "TIME_ZONE")
# Who waits for a pool whose server is dead waits for so long; psycopg's own default is 30.
LONGEST_POOL_TIMEOUT = 10.0


@register
def check_peers(**kwargs: Any) -> list[CheckMessage]:
    """Report what is wrong with aliases that have peers."""
    messages: list[CheckMessage] = []
    for alias in aliases_with_peers():
        problems = list(_wrong_peers(alias))
        messages += [*problems, *_settings_of_no_use(alias)]
        if not problems:
            for peer in settings_of(alias)["PEERS"]:
                messages += [*_endless_connecting(peer, alias), *_pool(peer, alias)]
    return messages


def aliases_with_peers() -> Iterator[str]:
    """Yield the aliases of ``DATABASES`` whose engine is the balancing one."""
    for alias in connections.settings:
        if has_peers(alias):
            yield alias


def _wrong_peers(alias: str) -> Iterator[CheckMessage]:
    remedy = "Correct the entry in DATABASES."
    try:
        for problem in wrong_peers(alias, settings_of(alias)):
            yield error("E020", problem, remedy)
    except ImproperlyConfigured as problem:  # An engine that cannot be imported.
        yield error("E020", f"The peers of {alias!r} cannot be used: {problem}", remedy)


def _settings_of_no_use(alias: str) -> Iterator[CheckMessage]:
    given = [key for key in PEERS_OWN if settings_of(alias).get(key)]
    if given:
        yield warning(
            "W020",
            f"{', '.join(given)} of {alias!r} count for nothing: where a connection leads to is "
            "said by the peer that is chosen.",
            "Move them to the entries of its peers in DATABASES.",
        )


def _endless_connecting(peer: str, alias: str) -> Iterator[CheckMessage]:
    if vendor_of(peer) in OVER_A_NETWORK and not may_time_out(peer):
        yield warning(
            "W021",
            f"Connecting to the peer {peer!r} of {alias!r} has no time limit: while its machine "
            "does not answer, whoever tries it waits for minutes.",
            'Add "connect_timeout": 2 to the OPTIONS of its entry in DATABASES.',
        )


def _pool(peer: str, alias: str) -> Iterator[CheckMessage]:
    pool = options_of(peer).get("pool")
    if not pool:
        return
    if settings_of(alias)["CONN_MAX_AGE"] != 0 or settings_of(peer)["CONN_MAX_AGE"] != 0:
        yield error(
            "E021",
            f"The peer {peer!r} of {alias!r} has a pool, whose connections must be given back "
            "after each request, but CONN_MAX_AGE keeps them.",
            f"Remove CONN_MAX_AGE from the entries of {alias!r} and of its peers.",
        )
    if not settings_of(peer)["CONN_HEALTH_CHECKS"]:
        yield warning(
            "W022",
            f"The pool of the peer {peer!r} of {alias!r} hands out connections unchecked: once "
            "its server has restarted, the first queries on them fail.",
            'Add "CONN_HEALTH_CHECKS": True to its entry in DATABASES.',
        )
    timeout = pool.get("timeout", 30.0) if isinstance(pool, dict) else 30.0
    if timeout > LONGEST_POOL_TIMEOUT:
        yield warning(
            "W023",
            f"Whoever finds the peer {peer!r} of {alias!r} dead waits {timeout:g} seconds for its "
            "pool.",
            'Add "timeout": 2 to its "pool" in the OPTIONS of its entry in DATABASES.',
        )
