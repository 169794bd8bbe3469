"""A unit of work around one request: marks in, role, marks out, and what is made afterwards."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from django.http import FileResponse, HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.template.response import SimpleTemplateResponse

from .conf import get_config
from .pinning import Block, UnitOfWork, bind
from .stores import get_mark_store
from .units import FOLLOWER, LEADER, Role, Scope, Unit, current, current_scope

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


def role_of(request: HttpRequest) -> Role:
    """Return ``follower`` for the safe methods of RFC 9110 (9.2.1), ``leader`` for others."""
    return FOLLOWER if request.method in SAFE_METHODS else LEADER


def serve(request: HttpRequest, role: Role, respond: Callable[[], Any]) -> Any:
    """Run *respond* in a unit of its own and let the response carry what the unit wrote.

    What is no response goes back as it is.
    """
    with _unit_of(request, role) as block:
        return _finished(request, respond(), block.unit)


async def aserve(request: HttpRequest, role: Role, respond: Callable[[], Awaitable[Any]]) -> Any:
    """Do as ``serve`` does for an awaited response."""
    with _unit_of(request, role) as block:
        try:
            response = await respond()
        finally:
            await block.unit.aend()
        return _finished(request, response, block.unit)


def _unit_of(request: HttpRequest, role: Role) -> UnitOfWork:
    unit = Unit(lambda: get_mark_store().load(request), role=role, request=request)
    return UnitOfWork(unit=unit)


def _finished(request: HttpRequest, response: Any, unit: Unit) -> Any:
    if not isinstance(response, HttpResponseBase):
        return response
    unit.end()
    marks = unit.take_marks() if get_config().enabled else {}
    if marks:
        get_mark_store().save(request, response, marks)
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
