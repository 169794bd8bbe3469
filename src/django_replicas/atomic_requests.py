"""A value for ``ATOMIC_REQUESTS`` that is true for some requests only."""

from .scopes import current_unit
from .units import LEADER


class AtomicInLeaderRole:
    """Is true where the unit of work has the role ``leader``; Django asks before each view.

    Decorators of the view come too late to have a say, and a ``FORCE_HEADER`` has none.
    """

    def __bool__(self) -> bool:
        unit = current_unit()
        return unit is not None and unit.role is LEADER

    def __repr__(self) -> str:
        return "atomic_in_leader_role"

    def __reduce__(self) -> str:
        # Settings are copied, and sent to the processes of a parallel test run.
        return "atomic_in_leader_role"


atomic_in_leader_role = AtomicInLeaderRole()
