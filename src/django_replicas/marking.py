"""Marks taken from the leaders, when something is about to carry them."""

import logging

from django.core.signals import setting_changed
from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

from .conf import SETTINGS, get_config
from .hangup import hung_up_after
from .leaders import connection_of_this_thread, has_open_transaction
from .liveness import Liveness
from .marks import Mark, Marks, merge
from .positions import Position, may_have_positions, positions_of
from .scopes import on_event_loop
from .topology import ReplicaSet
from .units import SetState, Unit, lasting

logger = logging.getLogger("django_replicas")

_known: dict[str, Liveness] = {}


def take_marks(unit: Unit) -> Marks:
    """Return the marks to hand on, the unit's own and those it came with.

    Empty when nothing was written or pinned since marks were last taken. Asks each written leader
    for its position, on this thread's connection; what cannot be asked is a deadline.
    """
    made = {}
    for alias in unit.owed:
        state = unit.sets[alias]
        wrote = state.uncarried or state.written
        # Before it is asked: what is written meanwhile is owed again.
        state.uncarried = False
        made[alias] = _mark_of(alias, state, wrote)
    return unit.hand_on(made) if made else {}


def marks_to_come(unit: Unit) -> Marks:
    """Return the marks that the unit's carrier will be given for what is owed by now."""
    owed = ((alias, unit.sets[alias]) for alias in unit.owed)
    return {
        alias: _mark_of(alias, state, state.uncarried or state.written) for alias, state in owed
    }


def marks_so_far(unit: Unit) -> Marks:
    """Return what a job that is queued now must see; nothing counts as handed on by it."""
    made = {}
    for alias, state in list(unit.sets.items()):
        # A write that the session's cache carries is owed no more, but a job has no session.
        wrote = state.uncarried or state.written
        if wrote or state.is_owed:
            made[alias] = _mark_of(alias, state, wrote)
    return merge(unit.marks, made)


def _mark_of(alias: str, state: SetState, wrote: bool) -> Mark:
    written = (state.latest or _written(alias, state)) if wrote else None
    if written is None:
        return lasting(alias)
    return written.merged(lasting(alias)) if state.new_pins > 0 else written


def _written(alias: str, state: SetState) -> Mark | None:
    """Make a mark of all that is committed by now; None where only a deadline will do."""
    if on_event_loop():
        return None
    connection = connection_of_this_thread(alias)
    if has_open_transaction(connection):
        return None
    replica_set = get_config().topology.by_leader[alias]
    writes, are_open = state.writes, any(map(has_open_transaction, state.writers))
    position = _position(replica_set, connection)
    if position is None:
        return None
    mark = Mark.at(position, replica_set.pin_seconds)
    if are_open:
        # What another thread of the unit has yet to commit is behind every position of now.
        return mark.merged(lasting(alias))
    if state.writes == writes:
        state.latest = mark
    return mark


def _position(replica_set: ReplicaSet, connection: BaseDatabaseWrapper) -> Position | None:
    leader = replica_set.leader
    liveness = _known.get(leader) or _known.setdefault(leader, Liveness(replica_set.check_interval))
    if not may_have_positions(connection) or not liveness.may_try(leader):
        return None
    try:
        connection.ensure_connection()
        with hung_up_after(connection, replica_set.check_timeout):
            positions = positions_of(connection)
            flushed = replica_set.mark_position == "flushed"
            position = positions.written(connection, flushed=flushed) if positions else None
        has_none = positions is not None and position is None
        problem = "it keeps no log that followers could replay" if has_none else None
    except Error as error:
        position, problem = None, str(error).strip()
    if problem is None:
        liveness.mark_up(leader)
    elif liveness.mark_down(leader):
        logger.warning(
            "Leader %r does not tell its position, so that its users read it for %g seconds after "
            "each write: %s",
            leader,
            replica_set.pin_seconds,
            problem,
        )
    return position


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting in {*SETTINGS, "DATABASES"}:
        _known.clear()


setting_changed.connect(_forget, dispatch_uid="django_replicas.marking")
