"""The request middleware."""

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.db import DEFAULT_DB_ALIAS
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.functional import SimpleLazyObject

from .conf import get_config
from .forced import as_asked_for
from .http import aserve, role_of, serve
from .overrides import apply_override
from .readonly import LazyAnswer


class ReplicasMiddleware:
    """Makes each request a unit of work whose role comes from its HTTP method.

    ``VIEW_OVERRIDES`` gives single views another role, and ``FORCE_HEADER``, if set, requests.

    Put it first, outside ``SessionMiddleware`` at any rate: what runs outside of it is outside of
    the unit. Works natively under WSGI and ASGI.
    """

    sync_capable = True
    async_capable = True

    def __init__(
        self,
        get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]],
    ) -> None:
        self.get_response: Callable[[HttpRequest], Any] = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)
            # Django would send a plain method to a worker thread, for each request.
            self.process_view = self.aprocess_view  # type: ignore[assignment]  # async

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self.__acall__(request)
        respond = as_asked_for(request, self.get_response)
        response: HttpResponseBase = serve(request, role_of(request), respond, request)
        return response

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        respond = as_asked_for(request, self.get_response)
        response: HttpResponseBase = await aserve(request, role_of(request), respond, request)
        return response

    def process_view(self, request: HttpRequest, *view: Any) -> None:
        apply_override(request)

    async def aprocess_view(self, request: HttpRequest, *view: Any) -> None:
        apply_override(request)


class ReadOnlyMiddleware:
    """Lets ``request.service_is_readonly`` tell whether the leader takes no writes at present.

    The leader is asked when the request first wants to know; ``await
    request.aservice_is_readonly()`` where an event loop runs. It is that of the set of ``alias``:
    a subclass may name another.
    """

    sync_capable = True
    async_capable = True
    alias = DEFAULT_DB_ALIAS

    def __init__(
        self,
        get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]],
    ) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        answer = LazyAnswer(get_config().topology.leader_of(self.alias))
        vars(request)["service_is_readonly"] = SimpleLazyObject(answer.get)
        vars(request)["aservice_is_readonly"] = answer.aget
        return self.get_response(request)
