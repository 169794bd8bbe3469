"""The decorators of django_replicated; what was before comes back after each call."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import iscoroutinefunction, markcoroutinefunction

from django_replicas.decorators import use_follower, use_leader
from django_replicas.http import role_of
from django_replicas.scopes import current_unit
from django_replicas.units import FOLLOWER, LEADER

from .router import State, role_in

__all__ = ["use_master", "use_slave", "use_state"]

P = ParamSpec("P")
R = TypeVar("R")

use_master = use_leader
use_slave = use_follower


def use_state(forced_state: State | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Have each call of a view in a state, without one in that which the middleware would give."""
    if forced_state is None:
        return _by_method
    return use_master if role_in(forced_state) is LEADER else use_slave


def _by_method(view: Callable[P, R]) -> Callable[P, R]:
    in_role = {LEADER: use_master(view), FOLLOWER: use_slave(view)}

    @wraps(view)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if current_unit() is not None:
            return view(*args, **kwargs)
        request: Any = args[0]
        return in_role[role_of(request)](*args, **kwargs)

    return markcoroutinefunction(call) if iscoroutinefunction(view) else call
