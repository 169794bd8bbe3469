"""The request middleware."""

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from .http import aserve, role_of, serve


class ReplicasMiddleware:
    """Makes each request a unit of work whose role comes from its HTTP method.

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

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self.__acall__(request)
        response: HttpResponseBase = serve(
            request, role_of(request), lambda: self.get_response(request)
        )
        return response

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await aserve(
            request, role_of(request), lambda: self.get_response(request)
        )
        return response
