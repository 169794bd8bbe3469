"""Whether databases answer, asked by hand. A database's errors mean no; others are raised."""

import functools
from collections.abc import Callable
from functools import partial
from typing import Any

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_replicas.liveness import Liveness
from django_replicas.writability import refuses_writes

__all__ = ["check_db", "db_is_alive", "db_is_writable", "is_alive", "is_writable"]

Checker = Callable[[BaseDatabaseWrapper], bool]


def is_alive(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether a connection works; opens it where it is not open."""
    connection.ensure_connection()
    return bool(connection.is_usable())


def is_writable(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether the server behind a connection takes writes."""
    return not refuses_writes(connection)


def check_db(
    checker: Checker,
    db_name: str,
    cache_seconds: float | None = None,
    number_of_tries: int = 1,
    force: bool = False,
) -> bool:
    """Ask a checker about an alias, so many times at most.

    A no holds for *cache_seconds* in this process, unless the answer is to be *force*\\ d, and for
    every checker of the same name, as those have that are made for one call.
    """
    known = _known(get_object_name(checker), cache_seconds or 0)
    if not force and cache_seconds is not None and not known.may_try(db_name):
        return False
    passes = any(_passes(checker, connections[db_name]) for _ in range(number_of_tries))
    if passes:
        known.mark_up(db_name)
    else:
        known.mark_down(db_name)
    return passes


def _passes(checker: Checker, connection: BaseDatabaseWrapper) -> bool:
    try:
        return checker(connection)
    except Error:
        return False


@functools.cache  # By its full name, because theirs had a cache of Django's as dbchecker.cache.
def _known(checker_name: str, seconds: float) -> Liveness:
    return Liveness(seconds)


def get_object_name(obj: Any) -> str:
    """Return an object's name, its class's where it has none."""
    name: str = getattr(obj, "__name__", type(obj).__name__)
    return name


db_is_alive = partial(check_db, is_alive)
db_is_writable = partial(check_db, is_writable)
