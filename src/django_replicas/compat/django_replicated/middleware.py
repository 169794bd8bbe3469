"""The middleware of django_replicated."""

from collections.abc import Awaitable, Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from django_replicas.middleware import ReadOnlyMiddleware, ReplicasMiddleware

from .decorators import use_state
from .router import State

__all__ = ["ReadOnlyMiddleware", "ReplicationMiddleware"]


class ReplicationMiddleware(ReplicasMiddleware):
    """As ``ReplicasMiddleware``; *forced_state* has every request in one state."""

    def __init__(
        self,
        get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]],
        forced_state: State | None = None,
    ) -> None:
        decorated = get_response if forced_state is None else use_state(forced_state)(get_response)
        super().__init__(decorated)
