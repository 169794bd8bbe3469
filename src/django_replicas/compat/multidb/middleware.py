"""The middleware of django-multidb-router."""

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.db import DEFAULT_DB_ALIAS
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from django_replicas import pin
from django_replicas.compat import HALVES, refuse_hooks
from django_replicas.conf import get_config
from django_replicas.http import SAFE_METHODS
from django_replicas.middleware import ReplicasMiddleware
from django_replicas.topology import ReplicaSet

__all__ = [
    "READ_ONLY_METHODS",
    "PinningRouterMiddleware",
    "pinning_cookie",
    "pinning_cookie_httponly",
    "pinning_cookie_samesite",
    "pinning_cookie_secure",
    "pinning_seconds",
]

READ_ONLY_METHODS = SAFE_METHODS
GetResponse = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


class PinningRouterMiddleware(ReplicasMiddleware):
    """As ``ReplicasMiddleware``; a response with ``_db_write`` pins the user's next requests."""

    def __init__(self, get_response: GetResponse) -> None:
        super().__init__(_heeding_db_write(get_response))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_hooks(PinningRouterMiddleware, cls, HALVES)


def _heeding_db_write(get_response: Any) -> GetResponse:
    if iscoroutinefunction(get_response):

        async def respond_async(request: HttpRequest) -> HttpResponseBase:
            return _heed_db_write(await get_response(request))

        return respond_async
    return lambda request: _heed_db_write(get_response(request))


def _heed_db_write(response: HttpResponseBase) -> HttpResponseBase:
    if getattr(response, "_db_write", False):
        pin(DEFAULT_DB_ALIAS)
    return response


def pinning_cookie() -> str:
    """Return the name of the cookie that carries marks."""
    return get_config().cookie.name


def pinning_cookie_httponly() -> bool:
    return get_config().cookie.httponly


def pinning_cookie_samesite() -> str | None:
    return get_config().cookie.samesite


def pinning_cookie_secure() -> bool | None:
    """Return whether the cookie is for HTTPS only; None is as the request is."""
    return get_config().cookie.secure


def pinning_seconds() -> float:
    """Return how long a mark without a position lasts."""
    replica_set = get_config().topology.by_leader.get(DEFAULT_DB_ALIAS)
    return (replica_set or ReplicaSet(DEFAULT_DB_ALIAS, ())).pin_seconds
