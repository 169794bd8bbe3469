"""Aliases for the time of a test, those with peers among them."""

from contextlib import contextmanager

from django.db import connections
from django.db.backends.base.base import RAN_DB_VERSION_CHECK

from django_replicas.peers import forget_peers

ENGINE = "django_replicas.backends.balanced"


@contextmanager
def aliases(**entries):
    """Have ``DATABASES`` contain these, as if it always had; close what they open."""
    before = dict(connections.settings)
    connections.settings.update(connections.configure_settings({"default": {}, **entries}))
    connections.settings["default"] = entries.get("default", before["default"])
    forget_peers()
    try:
        yield connections
    finally:
        for connection in connections.all(initialized_only=True):
            if connection.alias in entries and connection.alias != "default":
                connection.close()
                if getattr(connection, "_connection_pools", None):
                    connection.close_pool()
                del connections[connection.alias]
        RAN_DB_VERSION_CHECK.difference_update(entries)
        connections.settings.clear()
        connections.settings.update(before)
        forget_peers()


def balanced(*peers, **own):
    """Return the entry of an alias with peers."""
    return {"ENGINE": ENGINE, "PEERS": list(peers), **own}
