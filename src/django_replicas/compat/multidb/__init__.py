"""The names of django-multidb-router's root (``multidb``).

With its settings, threads without a unit of work have one of their own (``OUTSIDE_UNITS``).
"""

from typing import Any

from django.core.signals import request_started
from django.db import DEFAULT_DB_ALIAS, router

from django_replicas import get_follower
from django_replicas.compat import warn_of_removal
from django_replicas.routers import GreedyPinRouter

from .pinning import db_write, this_thread_is_pinned, unpin_this_thread

__all__ = [
    "DEFAULT_DB_ALIAS",
    "MasterSlaveRouter",
    "PinningMasterSlaveRouter",
    "PinningReplicaRouter",
    "ReplicaRouter",
    "db_write",
    "get_replica",
    "get_slave",
    "this_thread_is_pinned",
]

warn_of_removal("multidb")

# Whose names these are.
VERSION = (0, 11, 0)
__version__ = "0.11.0"


class ReplicaRouter(GreedyPinRouter):
    """Reads followers until this unit of work writes, with or without the middleware.

    Without it each request begins with nothing pinned, in the unit that its thread has.
    """

    def __init__(self) -> None:
        super().__init__()
        request_started.connect(_begin_afresh, dispatch_uid=__name__)


def _begin_afresh(**kwargs: Any) -> None:
    if any(isinstance(each, ReplicaRouter) for each in router.routers):
        unpin_this_thread()


PinningReplicaRouter = ReplicaRouter
MasterSlaveRouter = ReplicaRouter
PinningMasterSlaveRouter = ReplicaRouter


def get_replica() -> str:
    """Return the alias of a follower of ``default``."""
    return get_follower(DEFAULT_DB_ALIAS)


get_slave = get_replica
