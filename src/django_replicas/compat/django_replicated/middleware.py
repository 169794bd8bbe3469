"""The middleware of django_replicated."""

from collections.abc import Awaitable, Callable
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from django_replicas import middleware
from django_replicas.compat import BEHIND, HALVES, refuse_hooks
from django_replicas.middleware import ReplicasMiddleware

from .decorators import use_state
from .router import State

__all__ = ["ReadOnlyMiddleware", "ReplicationMiddleware"]

ROLES = (
    "name views in REPLICATED_VIEWS_OVERRIDES, or call routers.use_state() and routers.revert() in "
    "a middleware of your own, behind this one."
)
MARKS = "call django_replicas.pin() where the next requests must read from the leader too."
HOOKS = {
    **HALVES,
    "check_state_override": ROLES,
    "get_state_override": ROLES,
    "is_override_matched": ROLES,
    "handle_redirect_after_write": MARKS,
    "set_force_master_cookie": MARKS,
    "set_non_atomic_dbs": (
        "give the leader's entry in DATABASES "
        '"ATOMIC_REQUESTS": django_replicas.atomic_in_leader_role.'
    ),
}


class ReplicationMiddleware(ReplicasMiddleware):
    """As ``ReplicasMiddleware``; *forced_state* has every request in one state."""

    def __init__(
        self,
        get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]],
        forced_state: State | None = None,
    ) -> None:
        decorated = get_response if forced_state is None else use_state(forced_state)(get_response)
        super().__init__(decorated)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_hooks(ReplicationMiddleware, cls, HOOKS)


class ReadOnlyMiddleware(middleware.ReadOnlyMiddleware):
    """Ours, by the name that it had."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_hooks(ReadOnlyMiddleware, cls, {**HALVES, "is_service_read_only": BEHIND})
