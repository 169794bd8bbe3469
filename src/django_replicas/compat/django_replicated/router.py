"""The router of django_replicated, and the states that it was switched between."""

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from django.db import DEFAULT_DB_ALIAS

from django_replicas.compat import refuse_hooks
from django_replicas.conf import get_config
from django_replicas.pinning import Block, UnitOfWork, as_role
from django_replicas.routers import LeaderFollowerRouter
from django_replicas.scopes import current_scope
from django_replicas.topology import ReplicaSet
from django_replicas.units import FOLLOWER, LEADER, Role

from .dbchecker import db_is_alive

if TYPE_CHECKING:
    from django.db.models import Model

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


class _AnyModel:
    """Stands where nobody says which model is meant; delegates may look at its label."""

    class _meta:
        app_label = "django_replicated"
        model_name = "any"
        db_table = ""


ANY = cast("type[Model]", _AnyModel)
IN_SETTINGS = "it is read from the settings, where REPLICAS or the REPLICATED_* say it."
HOOKS = {
    "is_alive": "a follower that cannot be connected to is passed over by itself.",
    "SLAVES": IN_SETTINGS,
    "DOWNTIME": IN_SETTINGS,
    "CHECK_STATE_ON_WRITE": IN_SETTINGS,
    "DEFAULT_DB_ALIAS": IN_SETTINGS,
    "all_allowed_aliases": IN_SETTINGS,
}


class ReplicationRouter(States, LeaderFollowerRouter):
    """Reads slaves in the state ``slave``, and refuses writes there.

    Its attributes are what the settings say now.
    """

    DEFAULT_DB_ALIAS = DEFAULT_DB_ALIAS

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_hooks(ReplicationRouter, cls, HOOKS)

    def db_for_read(self, model: "type[Model] | None" = None, **hints: Any) -> str:
        """Return where a model is read, or any of them where none is named."""
        return super().db_for_read(ANY if model is None else model, **hints)

    def db_for_write(self, model: "type[Model] | None" = None, **hints: Any) -> str:
        """Return where a model is written, or any of them; raises in the state ``slave``."""
        return super().db_for_write(ANY if model is None else model, **hints)

    def is_alive(self, db_name: str) -> bool:
        """Tell whether a database answers; a no holds for the downtime."""
        return db_is_alive(db_name, self.DOWNTIME)

    @property
    def SLAVES(self) -> list[str]:
        return [*_default_set().followers] or [DEFAULT_DB_ALIAS]

    @property
    def all_allowed_aliases(self) -> list[str]:
        return [DEFAULT_DB_ALIAS, *self.SLAVES]

    @property
    def DOWNTIME(self) -> float:
        return _default_set().downtime

    @property
    def CHECK_STATE_ON_WRITE(self) -> bool:
        return bool(get_config().check_role_on_write)


def _default_set() -> ReplicaSet:
    alone = ReplicaSet(DEFAULT_DB_ALIAS, ())
    return get_config().topology.by_leader.get(DEFAULT_DB_ALIAS, alone)
