"""The decorators of django_replicated; what was before comes back after each call."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from django_replicas.decorators import use_follower, use_leader
from django_replicas.units import LEADER

from .router import State, role_in

__all__ = ["use_master", "use_slave", "use_state"]

P = ParamSpec("P")
R = TypeVar("R")

use_master = use_leader
use_slave = use_follower


def use_state(forced_state: State) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Have each call of a view in a state."""
    return use_master if role_in(forced_state) is LEADER else use_slave
