"""Connections to ask a server over, which nobody else uses and which do not wait for ever."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from .peers import has_peers

OVER_A_NETWORK = frozenset({"postgresql", "mysql"})


@contextmanager
def connection_of_its_own(alias: str, seconds: float) -> Iterator[BaseDatabaseWrapper]:
    """Make a connection that no pool and nobody else knows, and close it after the block.

    Connecting may take so many seconds, two at least, where the alias's own options do not say. A
    server that is connected to may take its time: waiting for it is up to the caller.
    """
    connection: BaseDatabaseWrapper = connections.create_connection(alias)
    options = dict(connection.settings_dict["OPTIONS"])
    # A pool that is busy says nothing about its server, and waits for half a minute.
    options.pop("pool", None)
    if connection.vendor in OVER_A_NETWORK and connect_timeout_of(alias) is None:
        # libpq takes no less than two seconds.
        options["connect_timeout"] = max(2, math.ceil(seconds))
    connection.settings_dict = {**connection.settings_dict, "OPTIONS": options}
    try:
        yield connection
    finally:
        connection.close()
        if connection.connection is not None:
            # Django never closes SQLite's databases in memory; this one is nobody's.
            connection.connection.close()


def open_file(connection: BaseDatabaseWrapper) -> None:
    """Open the file, if there is one: SQLite would make it."""
    name = str(connection.settings_dict["NAME"])
    if "mode=memory" in name:
        return
    path = unquote(urlsplit(name).path) if name.startswith("file:") else name
    if path == ":memory:":
        return
    if not Path(path).exists():
        raise FileNotFoundError(f"there is no file {path}")
    connection.ensure_connection()


def servers_behind(alias: str) -> list[str]:
    """Return the aliases of the servers that an alias leads to: of its peers, else its own."""
    return list(connections.settings[alias]["PEERS"]) if has_peers(alias) else [alias]


def seconds_to_connect(alias: str, default: float) -> float:
    """Return how long connecting may take: each peer and each host has the whole of its timeout."""
    settings = connections.settings[alias]
    if has_peers(alias):
        return sum(seconds_to_connect(peer, default) for peer in settings["PEERS"])
    hosts = str(settings["HOST"]).count(",") + 1
    return (connect_timeout_of(alias) or default) * hosts


def connect_timeout_of(alias: str) -> float | None:
    """Return the seconds that connecting may take, None where its options name no limit."""
    try:
        seconds = float(connections.settings[alias]["OPTIONS"].get("connect_timeout") or 0)
    except (TypeError, ValueError):
        return None
    return seconds if seconds > 0 else None
