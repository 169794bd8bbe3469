"""Pins as django-multidb-router has them: of ``default``, by hand."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

from django.db import DEFAULT_DB_ALIAS

from django_replicas import is_pinned, pin, unpin_all
from django_replicas.pinning import Block, each_call_inside
from django_replicas.scopes import current_scope
from django_replicas.units import LEADER

__all__ = [
    "db_write",
    "mark_as_write",
    "pin_this_thread",
    "this_thread_is_pinned",
    "unpin_this_thread",
    "use_master",
    "use_primary_db",
]

P = ParamSpec("P")
R = TypeVar("R")


def this_thread_is_pinned() -> bool:
    """Tell whether this unit of work has reason to read from the leader.

    A pin or a write of its own, a method such as ``POST``, or a mark that its user came with, even
    if some follower has by now what that asks for.
    """
    scope, alias = current_scope(), DEFAULT_DB_ALIAS
    if not scope.inside or scope.unit is None:
        return False
    return (
        is_pinned(alias)
        or scope.role is LEADER
        or scope.unit.is_marked(alias)
        or scope.unit.state_of(alias).sought is not None
    )


def pin_this_thread() -> None:
    """Have this unit of work read from the leader from here on."""
    pin(DEFAULT_DB_ALIAS, count_as_new=False)


def unpin_this_thread() -> None:
    """Begin afresh in this unit of work; what it wrote is still carried to the user's next one."""
    unpin_all()


class UsePrimaryDB:
    """Reads from the leader inside ``with use_primary_db:`` or each call of a function.

    One object serves every thread and task; it nests, and puts back what was there.
    """

    def __init__(self) -> None:
        self._blocks: ContextVar[tuple[Block, ...]] = ContextVar("use_primary_db", default=())

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        return each_call_inside(_pinned, function)

    def __enter__(self) -> None:
        self._blocks.set((*self._blocks.get(), _pinned().__enter__()))

    def __exit__(self, *exc: Any) -> None:
        *outer, block = self._blocks.get()
        self._blocks.set(tuple(outer))
        block.__exit__(*exc)


def _pinned() -> Block:
    return pin(DEFAULT_DB_ALIAS, count_as_new=False)


use_primary_db = UsePrimaryDB()
use_master = use_primary_db


def mark_as_write(response: Any) -> Any:
    """Have the user's next requests read from the leader, whatever this one did."""
    response._db_write = True
    return response


def db_write(view: Callable[P, R]) -> Callable[P, R]:
    """Take each call of a view, async or not, for a write that the next requests must see too."""
    return each_call_inside(_as_a_write, view)


def _as_a_write() -> Block:
    pin(DEFAULT_DB_ALIAS)
    return Block(lambda scope: scope)
