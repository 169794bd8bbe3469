"""The unit's follower: chosen once, kept to its end, and made sure of wherever the unit reads."""

from django.db import connections

from .conf import get_config
from .followers import followers_of
from .leaders import in_test_case
from .reasons import Answer, Reason
from .scopes import current_scope, on_event_loop
from .topology import ReplicaSet
from .units import SetState, Unit, leads


def settle(replica_set: ReplicaSet, unit: Unit, state: SetState) -> Answer:
    """Choose the unit's follower, and keep to it; the leader where none is left.

    Opens that follower's connection in this thread. On an event loop, where nothing may be
    opened, and in a ``TestCase``, whose rows no follower has, the answer is the leader, and nothing
    is settled.
    """
    if (answer := _leader_at_any_rate(replica_set.leader)) is not None:
        return answer
    followers = followers_of(replica_set)
    chosen = followers.choose(state.named, state.sought, state.fallback)
    if chosen is not None:
        state.note_asked(connections[chosen])
        answer = chosen, Reason.FOLLOWER
        was_first = state.settle(answer) is answer
        return answer if was_first else settled_here(replica_set, unit, state)
    is_behind = state.sought is not None and followers.those_up()
    reason = Reason.MARKED if is_behind else Reason.NO_FOLLOWER
    return state.settle((replica_set.leader, reason))


def _leader_at_any_rate(leader: str) -> Answer | None:
    if on_event_loop():
        return leader, Reason.EVENT_LOOP
    return (leader, Reason.TRANSACTION) if in_test_case(leader) else None


def settle_anyway(replica_set: ReplicaSet, unit: Unit) -> Answer:
    """Answer with the unit's follower, also where it has not replayed what the unit must see."""
    leader = replica_set.leader
    state = unit.state_of(leader)
    unit.is_marked(leader)
    if state.sought is None:
        return state.settled or settle(replica_set, unit, state)
    if (answer := _leader_at_any_rate(leader)) is not None:
        return answer
    chosen = followers_of(replica_set).choose(first=state.named)
    if chosen is None:
        return leader, Reason.NO_FOLLOWER
    state.named = chosen
    return chosen, Reason.FOLLOWER


def settled_here(replica_set: ReplicaSet, unit: Unit, state: SetState) -> Answer:
    """Return the unit's answer, once its follower is known to be reached from this thread too.

    Where it cannot be, the unit goes on with the leader, which is never behind it.
    """
    answer = state.settled
    if answer is None:
        return settle(replica_set, unit, state)
    alias, reason = answer
    if (
        reason is Reason.FOLLOWER
        and not state.untried
        and not state.has_asked(connections[alias])
        and not _serves_here(replica_set, state, alias)
    ):
        reason = Reason.NO_FOLLOWER if state.sought is None else Reason.MARKED
        answer = state.settled = (replica_set.leader, reason)
        unit.change()
    return answer


def _serves_here(replica_set: ReplicaSet, state: SetState, alias: str) -> bool:
    followers = followers_of(replica_set)
    serves = followers.opens(alias) and (
        state.sought is None or followers.serves(alias, state.sought, state.fallback)
    )
    if serves:
        state.note_asked(connections[alias])
    return serves


def settled_for_now(replica_set: ReplicaSet, unit: Unit, state: SetState) -> Answer:
    """Return the answer of a unit that has no end: it keeps to a follower while that answers."""
    answer = state.settled
    if answer is not None and answer[1] is Reason.FOLLOWER:
        connection = connections[answer[0]]
        is_open = connection.connection is not None and not connection.errors_occurred
        if is_open and followers_of(replica_set).is_near(answer[0]):
            return answer
        state.named = answer[0]
    if answer is not None:
        state.settled = None
        unit.change()
    return settle(replica_set, unit, state)


def get_follower(alias: str) -> str:
    """Return the alias of a follower of the set that *alias* leads, for ``using()``.

    The same one for the whole unit of work; outside any unit each call chooses. Where no follower
    is left it is the leader. On an event loop, where nothing may be tried, it is a follower that
    is not known to be down, and the unit keeps to it if it proves to be up. Raises
    ``UnknownSetError`` for a follower's alias and for one that is not in ``DATABASES``.
    """
    config = get_config()
    if not leads(alias) or not config.enabled:
        return alias
    replica_set = config.topology.by_leader[alias]
    unit = current_scope().unit or Unit()  # Also that of a follower() block outside any unit.
    if not on_event_loop():
        return settle_anyway(replica_set, unit)[0]
    state = unit.state_of(alias)
    if state.settled is not None:
        return state.settled[0]
    state.named = state.named or followers_of(replica_set).name()
    return state.named or alias
