"""Routers as people first write them: each falls into the trap that its docstring names."""

import itertools
from contextvars import ContextVar

from asgiref.local import Local
from django.conf import settings
from django.db import connections, transaction

FOLLOWERS = ["replica1", "replica2"]


class FirstFollower:
    """Reads one follower, whatever was written, and writes the leader."""

    def db_for_read(self, model, **hints):
        return FOLLOWERS[0]

    def db_for_write(self, model, **hints):
        return "default"


class EachReadAnother(FirstFollower):
    """Spreads its reads: two reads in a row never meet the same follower."""

    _turn = itertools.count()

    def db_for_read(self, model, **hints):
        return FOLLOWERS[next(self._turn) % 2]


class ReadsOnly:
    """Has no opinion about writes."""

    def db_for_read(self, model, **hints):
        return FOLLOWERS[0]


class PinsWhenAsked(FirstFollower):
    """Takes being asked for a write for a write, and remembers it in a context variable."""

    pinned = ContextVar("pinned", default=False)

    def db_for_read(self, model, **hints):
        return "default" if self.pinned.get() else FOLLOWERS[0]

    def db_for_write(self, model, **hints):
        self.pinned.set(True)
        return "default"


class PinsInLocal(FirstFollower):
    """Remembers its pin in asgiref's ``Local``."""

    state = Local()

    def db_for_read(self, model, **hints):
        return "default" if getattr(self.state, "pinned", False) else FOLLOWERS[0]

    def db_for_write(self, model, **hints):
        self.state.pinned = True
        return "default"


class AsksForAutocommit(FirstFollower):
    """Looks for a transaction with a question that opens the leader's connection."""

    def db_for_read(self, model, **hints):
        return FOLLOWERS[0] if transaction.get_autocommit("default") else "default"


class LooksForAtomic(FirstFollower):
    """Asks whatever connection is at hand whether it is inside ``atomic()``."""

    def db_for_read(self, model, **hints):
        return "default" if connections["default"].in_atomic_block else FOLLOWERS[0]


class KeepsItsSettings(FirstFollower):
    """Reads the settings once."""

    def __init__(self):
        self.followers = list(settings.REPLICAS["SETS"]["default"])

    def db_for_read(self, model, **hints):
        return self.followers[0]
