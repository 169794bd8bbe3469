"""The router of django_replicated, and the states that it was switched between."""

from contextvars import ContextVar
from typing import Literal, Self

from django_replicas.pinning import Block, UnitOfWork, as_role
from django_replicas.routers import LeaderFollowerRouter
from django_replicas.units import FOLLOWER, LEADER, Role, current_scope

__all__ = ["ReplicationRouter", "States"]

State = Literal["master", "slave"]
ROLES = {"master": LEADER, "slave": FOLLOWER}

_entered: ContextVar[tuple[Block, ...]] = ContextVar("django_replicated.states", default=())


def role_in(state: str) -> Role:
    """Return what a state is called here; raises ``ValueError`` for what is none."""
    if state not in ROLES:
        raise ValueError(f"{state!r} is no state. There are 'master' and 'slave'.")
    return ROLES[state]


class States:
    """The state of routing by hand: a role, or outside any unit of work a unit with a role.

    It belongs to the request or task, not to the thread.
    """

    def state(self) -> State:
        """Return ``slave`` where reads may go to followers, else ``master``."""
        return "slave" if current_scope().role is FOLLOWER else "master"

    def use_state(self, state: State) -> Self:
        """Take on a state until ``revert()``."""
        role = role_in(state)
        block = as_role(role) if current_scope().inside else UnitOfWork(role)
        _entered.set((*_entered.get(), block.__enter__()))
        return self

    def revert(self) -> None:
        """Go back to what was before the last ``use_state()``."""
        if not _entered.get():
            raise RuntimeError("revert() goes back to before a use_state(), and there was none.")
        *before, block = _entered.get()
        _entered.set(tuple(before))
        block.__exit__(None, None, None)

    def reset(self) -> None:
        """Go back to what was before the first ``use_state()``."""
        while _entered.get():
            self.revert()

    def init(self, state: State) -> None:
        """Begin afresh, in a state."""
        self.reset()
        self.use_state(state)


class ReplicationRouter(States, LeaderFollowerRouter):
    """Reads slaves in the state ``slave``, and refuses writes there."""
