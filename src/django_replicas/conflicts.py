"""A read that a follower cancelled, so as to replay what its leader wrote, is done by the leader.

PostgreSQL's standbys do that to reads that are in the way of replay for too long ("canceling
statement due to conflict with recovery"; "Handling Query Conflicts" in its documentation).
"""

import logging
import re
from collections.abc import Callable
from typing import Any

from django.core.signals import setting_changed
from django.db import OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from .conf import SETTINGS, get_config, get_sound_config
from .leaders import has_open_transaction
from .reasons import Reason
from .scopes import current_scope
from .writes import READ, classify, text_of

logger = logging.getLogger("django_replicas")

# Nearly all conflicts are told as serialization_failure, the rest as deadlock_detected. Outside of
# transactions a standby has no other use for them.
CONFLICTS = frozenset({"40001", "40P01"})

# What asks a server about itself is not for another one to answer.
_OF_ITS_OWN = re.compile(r"\bpg_", re.I)


def watch_followers() -> None:
    """Have reads that followers cancel done by their leaders, in this thread and in all others.

    Outside of transactions only, and once. Rows that a cursor on the server has begun to hand out
    are never asked for again.
    """
    connection_created.connect(_on_connection_created, dispatch_uid=_UID)
    for connection in connections.all(initialized_only=True):
        _on_connection_created(connection)


_UID = "django_replicas.conflicts"


def _on_connection_created(connection: BaseDatabaseWrapper, **kwargs: object) -> None:
    is_follower = get_sound_config().topology.is_follower(connection.alias)
    wrappers = connection.execute_wrappers
    if is_follower and connection.vendor == "postgresql" and _execute not in wrappers:
        # In front, because Django's context manager for wrappers removes the last.
        wrappers.insert(0, _execute)


def _execute(
    execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    try:
        return execute(sql, params, many, context)
    except OperationalError as error:
        follower = context["connection"]
        leader = None if many or not _is_conflict(error) else _leader_for(follower, sql)
        if leader is None:
            raise
        logger.info("Follower %r cancelled a read: %r does it.", follower.alias, leader.alias)
        _go_on_with(leader.alias)
        return _execute_there(leader, sql, params, context["cursor"])


def _is_conflict(error: OperationalError) -> bool:
    """Read the SQLSTATE as psycopg 3 and 2 have it, because messages may be translated."""
    cause = error.__cause__
    return {getattr(cause, "sqlstate", None), getattr(cause, "pgcode", None)} & CONFLICTS != set()


def _leader_for(follower: BaseDatabaseWrapper, sql: Any) -> BaseDatabaseWrapper | None:
    """Return this thread's connection to the leader, None where it must not do the read."""
    config = get_config()
    alias = config.topology.leader_of(follower.alias)
    if not config.enabled or alias == follower.alias:
        return None
    leader: BaseDatabaseWrapper = connections[alias]
    if has_open_transaction(follower) or has_open_transaction(leader):
        return None
    text = text_of(sql, follower)
    is_read = text is not None and classify(text, follower.vendor) is READ
    return leader if is_read and not _OF_ITS_OWN.search(text or "") else None


def _go_on_with(leader: str) -> None:
    """Have the unit read the leader from here on: on its follower it would go back in time."""
    unit = current_scope().unit
    if unit is not None:
        unit.state_of(leader).settled = (leader, Reason.CONFLICT)
        unit.change()


def _execute_there(leader: BaseDatabaseWrapper, sql: Any, params: Any, cursor: Any) -> Any:
    """Execute on the leader, and let a follower's cursor be the leader's from here on."""
    is_on_the_server = getattr(cursor.cursor, "name", None) is not None
    opened: Any = leader.chunked_cursor() if is_on_the_server else leader.cursor()
    try:
        # Not through what logs queries, because the follower's cursor does so in a moment.
        result = leader.make_cursor(opened.cursor).execute(sql, params)
    except BaseException:
        opened.close()
        raise
    cursor.cursor.close()
    # The connection as well: what it executes next is seen, or refused, as the leader's.
    cursor.cursor, cursor.db = opened.cursor, leader
    return result


def _watch_anew(*, setting: str, **kwargs: object) -> None:
    if setting in SETTINGS:
        watch_followers()


setting_changed.connect(_watch_anew, dispatch_uid=_UID)
