"""Aliases for the time of a test, those with peers among them, and what is known of the peers."""

from contextlib import contextmanager

from django.db import connections
from django.db.backends.base.base import RAN_DB_VERSION_CHECK

from django_replicas.peers import forget_peers, peers_of
from django_replicas.signals import peer_down

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


def is_down(peer, alias="many"):
    return not peers_of(alias).is_up(peer)


def meet(peer, connect):
    """Have new connections opened until one has found that a peer is down."""
    while not is_down(peer):
        connect()


def let_pass(monkeypatch, seconds, alias="many"):
    """Let so much time pass for the peers that are left alone, and then no more."""
    liveness = peers_of(alias)._liveness
    now = liveness._clock() + seconds
    monkeypatch.setattr(liveness, "_clock", lambda: now)


@contextmanager
def outages():
    """Collect why peers went down."""
    reasons = []

    def listen(signal, sender, reason, **told):
        reasons.append(reason)

    peer_down.connect(listen)
    try:
        yield reasons
    finally:
        peer_down.disconnect(listen)


def who(alias="many"):
    """Ask a new connection which server it is."""
    connections[alias].close()
    return who_is_it(alias)


def who_is_it(alias="many"):
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT name FROM who")
        return cursor.fetchone()[0]
