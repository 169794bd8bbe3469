"""A unit of work around one request: marks in, role, marks out, streamed bodies."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from django.http import FileResponse, HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase

from .conf import get_config
from .pinning import FOLLOWER, LEADER, Block, Role, Scope, Unit
from .stores import get_mark_store

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


def role_of(request: HttpRequest) -> Role:
    """Return ``follower`` for the safe methods of RFC 9110 (9.2.1), ``leader`` for others."""
    return FOLLOWER if request.method in SAFE_METHODS else LEADER


def serve(
    request: HttpRequest, role: Role, respond: Callable[[], HttpResponseBase]
) -> HttpResponseBase:
    """Run *respond* in a unit of its own and let the response carry what the unit wrote."""
    unit = _unit_of(request)
    with _inside(unit, role):
        return _finished(request, respond(), unit, role)


async def aserve(
    request: HttpRequest, role: Role, respond: Callable[[], Awaitable[HttpResponseBase]]
) -> HttpResponseBase:
    """Do as ``serve`` does for an awaited response."""
    unit = _unit_of(request)
    with _inside(unit, role):
        return _finished(request, await respond(), unit, role)


def _unit_of(request: HttpRequest) -> Unit:
    return Unit(lambda: get_mark_store().load(request), carries=True)


def _inside(unit: Unit, role: Role) -> Block:
    return Block(lambda _: Scope(unit, inside=True, role=role))


def _finished(
    request: HttpRequest, response: HttpResponseBase, unit: Unit, role: Role
) -> HttpResponseBase:
    marks = unit.take_marks() if get_config().enabled else {}
    if marks:
        get_mark_store().save(request, response, marks)
    if isinstance(response, StreamingHttpResponse) and not isinstance(response, FileResponse):
        _stream_inside(response, unit, role)
    return response


def _stream_inside(response: StreamingHttpResponse, unit: Unit, role: Role) -> None:
    body: Any = response.streaming_content
    stream = _each_async if response.is_async else _each
    response.streaming_content = stream(body, unit, role)


def _each(body: Iterator[bytes], unit: Unit, role: Role) -> Iterator[bytes]:
    while True:
        with _inside(unit, role):
            try:
                part = next(body)
            except StopIteration:
                return
        yield part


async def _each_async(body: AsyncIterator[bytes], unit: Unit, role: Role) -> AsyncIterator[bytes]:
    while True:
        with _inside(unit, role):
            try:
                part = await anext(body)
            except StopAsyncIteration:
                return
        yield part
