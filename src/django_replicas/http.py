"""A unit of work around one request: marks in, role, marks out, and what is made afterwards."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from inspect import iscoroutine
from typing import Any, ParamSpec

from asgiref.sync import sync_to_async
from django.http import FileResponse, HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.template.response import SimpleTemplateResponse

from .conf import get_config
from .marking import take_marks
from .pinning import Block, UnitOfWork, bind
from .stores import get_mark_store
from .units import FOLLOWER, LEADER, Role, Scope, Unit, current, current_scope

P = ParamSpec("P")

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


def role_of(request: HttpRequest) -> Role:
    """Return ``follower`` for the safe methods of RFC 9110 (9.2.1), ``leader`` for others."""
    return FOLLOWER if request.method in SAFE_METHODS else LEADER


def serve(
    request: HttpRequest, role: Role, view: Callable[P, Any], *args: P.args, **kwargs: P.kwargs
) -> Any:
    """Call *view* in a unit of its own and let its response carry what the unit wrote.

    What is no response goes back as it is; a coroutine becomes one for its response.
    """
    with UnitOfWork(unit=_unit_of(request, role)) as block:
        response = view(*args, **kwargs)
        if not iscoroutine(response):
            return _finished(request, response, block.unit)
        rest = block.rest()
    return _aserve_rest(request, rest, response)


async def aserve(
    request: HttpRequest,
    role: Role,
    view: Callable[P, Awaitable[Any]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> Any:
    """Do as ``serve`` does for an awaited response."""
    with UnitOfWork(unit=_unit_of(request, role)) as block:
        return await _awaited(request, view(*args, **kwargs), block.unit)


async def _aserve_rest(request: HttpRequest, rest: UnitOfWork, response: Awaitable[Any]) -> Any:
    with rest:
        return await _awaited(request, response, rest.unit)


async def _awaited(request: HttpRequest, response: Awaitable[Any], unit: Unit) -> Any:
    try:
        awaited = await response
    finally:
        await unit.aend()
    if unit.owed:
        # Leaders and caches are asked for it, in the thread that the view wrote in.
        return await sync_to_async(_finished)(request, awaited, unit)
    return _finished(request, awaited, unit)


def _unit_of(request: HttpRequest, role: Role) -> Unit:
    return Unit(lambda: get_mark_store().load(request), role=role, request=request)


def _finished(request: HttpRequest, response: Any, unit: Unit) -> Any:
    if not isinstance(response, HttpResponseBase):
        return response
    unit.end()
    if unit.owed and get_config().enabled:
        get_mark_store().save(request, response, take_marks(unit))
    return finish_inside(response)


def finish_inside(response: Any) -> Any:
    """Have what is made after a view has returned, bodies and templates, made in its scope."""
    if isinstance(response, StreamingHttpResponse) and not isinstance(response, FileResponse):
        stream: Any = _each_async if response.is_async else _each
        response.streaming_content = stream(response.streaming_content, current_scope())
    elif isinstance(response, SimpleTemplateResponse) and not response.is_rendered:
        vars(response)["render"] = bind(response.render)
        response.add_post_render_callback(_is_rendered)
    return response


def _is_rendered(response: SimpleTemplateResponse) -> None:
    # Gone again, because cached responses are pickled.
    vars(response).pop("render", None)


def _inside(scope: Scope) -> Block:
    return Block(lambda _: scope)


def _each(body: Iterator[bytes], scope: Scope) -> Iterator[bytes]:
    while True:
        with _inside(scope):
            try:
                part = next(body)
            except StopIteration:
                return
            finally:
                scope = current.get()  # A block that the body is inside of goes on.
        yield part


async def _each_async(body: AsyncIterator[bytes], scope: Scope) -> AsyncIterator[bytes]:
    while True:
        with _inside(scope):
            try:
                part = await anext(body)
            except StopAsyncIteration:
                return
            finally:
                scope = current.get()
        yield part
