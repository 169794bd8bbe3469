"""Roles for single views and functions."""

from collections.abc import Callable, Coroutine
from functools import wraps
from inspect import iscoroutine
from typing import Any, ParamSpec, TypeVar, cast

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest

from .http import aserve, finish_inside, serve
from .pinning import (
    Block,
    UnitOfWork,
    as_role,
    each_call_inside,
    overriding,
    refuse_generators,
)
from .scopes import current_unit
from .units import FOLLOWER, LEADER, Role

P = ParamSpec("P")
R = TypeVar("R")


def use_leader(function: Callable[P, R]) -> Callable[P, R]:
    """Give each call of a view or function the role ``leader``.

    For functions and async functions, ``as_view()`` results, and methods by ``method_decorator``
    or plainly. Inside a request's unit of work the role holds for the call and what was there
    before comes back. Without the middleware a view's request becomes a unit of its own, marks in
    and out included.
    """
    return _in_role(LEADER, function)


def use_follower(function: Callable[P, R]) -> Callable[P, R]:
    """Give each call of a view or function the role ``follower``; see ``use_leader``."""
    return _in_role(FOLLOWER, function)


use_master = use_leader
use_slave = use_follower


def _in_role(role: Role, function: Callable[P, R]) -> Callable[P, R]:
    refuse_generators(function)
    call: Any = function
    if iscoroutinefunction(function):

        @wraps(function)
        async def view_async(*args: P.args, **kwargs: P.kwargs) -> Any:
            request = _request_without_unit(args)
            if request is not None:
                return await aserve(request, role, call, *args, **kwargs)
            return await _awaited(_block(role), call(*args, **kwargs))

        return cast("Callable[P, R]", view_async)

    @wraps(function)
    def view(*args: P.args, **kwargs: P.kwargs) -> Any:
        request = _request_without_unit(args)
        if request is not None:
            return serve(request, role, call, *args, **kwargs)
        with _block(role) as block:
            result = call(*args, **kwargs)
            # A plain method of an async view returns what is still to be awaited.
            return _awaited(block.rest(), result) if iscoroutine(result) else finish_inside(result)

    return view


async def _awaited(block: Block, response: Coroutine[Any, Any, Any]) -> Any:
    with block:
        return finish_inside(await response)


def _block(role: Role) -> Block:
    return UnitOfWork(role) if current_unit() is None else as_role(role)


def _request_without_unit(args: tuple[Any, ...]) -> HttpRequest | None:
    unit = current_unit()
    if unit is not None and unit.request is not None:
        return None
    # Django REST framework hands its views a request around Django's.
    candidates = (getattr(arg, "_request", arg) for arg in args[:2])
    return next((each for each in candidates if isinstance(each, HttpRequest)), None)


def with_leaders(*aliases: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Run each call of a function inside ``leader(alias)`` for every alias."""
    return lambda function: each_call_inside(lambda: overriding(LEADER, *aliases), function)


def with_followers(*aliases: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Run each call of a function inside ``follower(alias)`` for every alias."""
    return lambda function: each_call_inside(lambda: overriding(FOLLOWER, *aliases), function)
