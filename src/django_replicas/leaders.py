"""The leaders' connections of each thread: inside a transaction or not, and watched for SQL."""

import threading
from collections.abc import Callable, Collection
from typing import Any

from django.core.signals import setting_changed
from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from .conf import SETTINGS, get_sound_config
from .scopes import on_event_loop
from .shortcuts import forget_here
from .units import Unit
from .writes import is_plain_select


class LeaderObserver:
    """A router that hears of statements before a leader executes them, but for plain reads."""

    def before_execute(self, connection: BaseDatabaseWrapper, sql: Any) -> None:
        """Note the statement, or refuse it by raising."""

    def sets_behind(self, unit: Unit) -> Collection[str]:
        """Return the leaders that a job of *unit* must read for more than the unit's marks."""
        return ()


class _ThreadConnections(threading.local):
    def __init__(self) -> None:
        self.by_alias: dict[str, BaseDatabaseWrapper] = {}
        self.after_statement: list[Callable[[], None]] | None = None


_of_this_thread = _ThreadConnections()


def is_in_transaction(alias: str) -> bool | None:
    """Tell whether a read elsewhere would miss what this thread has not committed to a leader.

    Outside ``atomic()`` an open connection that does not commit by itself counts as well. None on
    an event loop, whose thread has no say. Never opens the connection, as ``get_autocommit()``
    would; it is remembered here because asking Django's registry costs more than the decision.
    """
    if on_event_loop():
        return None
    return has_open_transaction(connection_of_this_thread(alias))


def has_open_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether a transaction is open, or would be begun by the next statement."""
    return connection.in_atomic_block or (
        not connection.autocommit and connection.connection is not None
    )


def connection_of_this_thread(alias: str) -> BaseDatabaseWrapper:
    """Return the thread's connection to a leader, watched, without opening it."""
    return _of_this_thread.by_alias.get(alias) or _meet(alias)


def _meet(alias: str) -> BaseDatabaseWrapper:
    connection = _of_this_thread.by_alias[alias] = connections[alias]
    watch(connection)
    return connection


def in_test_case(alias: str) -> bool:
    """Tell whether this thread's connection to a leader is inside a ``TestCase``'s transaction."""
    blocks = connection_of_this_thread(alias).atomic_blocks
    return any(getattr(block, "_from_testcase", False) for block in blocks)


def watch(connection: BaseDatabaseWrapper) -> None:
    """Have the routers hear of what *connection* executes; once, however often it is called.

    In front of the other wrappers, because Django's context manager for them removes the last.
    """
    if _announce not in connection.execute_wrappers:
        connection.execute_wrappers.insert(0, _announce)


def _announce(
    execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    if type(sql) is str and is_plain_select(sql):
        return execute(sql, params, many, context)
    work = _tell_observers(context["connection"], sql)
    try:
        return execute(sql, params, many, context)
    finally:
        for each in work:
            each()


def _tell_observers(connection: BaseDatabaseWrapper, sql: Any) -> list[Callable[[], None]]:
    # An observer may execute something itself, to ask a cache in the database for instance.
    before, work = _of_this_thread.after_statement, list[Callable[[], None]]()
    _of_this_thread.after_statement = work
    try:
        for observer in router.routers:
            if isinstance(observer, LeaderObserver):
                observer.before_execute(connection, sql)
    finally:
        _of_this_thread.after_statement = before
    return work


def after_statement(work: Callable[[], None]) -> None:
    """Have *work* done when the statement that observers hear of is over, whether or not it failed.

    At once, where they hear of none.
    """
    if _of_this_thread.after_statement is None:
        work()
    else:
        _of_this_thread.after_statement.append(work)


def watch_leaders() -> None:
    """Watch this thread's connections to leaders, and any thread's from the moment it opens one.

    Connections that other threads had opened before are watched when they are first asked about.
    """
    connection_created.connect(_on_connection_created, dispatch_uid=_UID)
    for connection in connections.all(initialized_only=True):
        _on_connection_created(connection)


_UID = "django_replicas.leaders"


def _on_connection_created(connection: BaseDatabaseWrapper, **kwargs: object) -> None:
    if connection.alias in get_sound_config().topology.by_leader:
        watch(connection)
        _of_this_thread.by_alias.pop(connection.alias, None)
        forget_here()


def _watch_anew(*, setting: str, **kwargs: object) -> None:
    if setting in SETTINGS:
        watch_leaders()


setting_changed.connect(_watch_anew, dispatch_uid=_UID)
