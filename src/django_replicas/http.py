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
from .pinning import UnitOfWork, bind
from .scopes import Scope, current, current_scope
from .stores import get_mark_store, must_move
from .units import FOLLOWER, LEADER, Role, Unit

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
    if unit.owed or must_move(request):
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
    elif must_move(request) and get_config().enabled:
        get_mark_store().save(request, response, unit.marks)
    return finish_inside(response)


def finish_inside(response: Any) -> Any:
    """Have what is made after a view has returned, bodies and templates, made in its scope."""
    if isinstance(response, StreamingHttpResponse) and not isinstance(response, FileResponse):
        place = _Place(current_scope())
        # Django closes the view's own body before ours, and leaves it open if it is async.
        closers: list[Callable[[], object]] = vars(response)["_resource_closers"]
        closers[:] = map(place.calling, closers)
        body: Any = vars(response)["_iterator"]
        response.streaming_content = (_each_async if response.is_async else _each)(body, place)
    elif isinstance(response, SimpleTemplateResponse) and not response.is_rendered:
        vars(response)["render"] = bind(response.render)
        response.add_post_render_callback(_is_rendered)
    return response


def _is_rendered(response: SimpleTemplateResponse) -> None:
    # Gone again, because cached responses are pickled.
    vars(response).pop("render", None)


class _Place:
    """Where a body is made, part by part; a block that the body is inside of goes on there."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def __enter__(self) -> None:
        self._token = current.set(self._scope)

    def __exit__(self, *exc: object) -> None:
        self._scope = current.get()
        current.reset(self._token)

    def calling(self, function: Callable[[], object]) -> Callable[[], None]:
        def call() -> None:
            with self:
                function()

        return call


def _each(body: Iterator[bytes], place: _Place) -> Iterator[bytes]:
    while True:
        with place:
            try:
                part = next(body)
            except StopIteration:
                return
        yield part


async def _each_async(body: AsyncIterator[bytes], place: _Place) -> AsyncIterator[bytes]:
    try:
        while True:
            with place:
                try:
                    part = await anext(body)
                except StopAsyncIteration:
                    return
            yield part
    finally:
        with place:
            if hasattr(body, "aclose"):
                await body.aclose()
