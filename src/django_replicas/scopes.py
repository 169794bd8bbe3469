"""What holds here: the unit of work, and the blocks around this place of the code.

One ``ContextVar`` holds a ``Scope``. What belongs to a block (a role, an override, a block's pin)
lives in the scope alone, set and reset by token; the rest is the unit's.
"""

import asyncio
import threading
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import NamedTuple

from asgiref.sync import SyncToAsync

from .conf import get_config
from .units import Role, Unit


class Scope(NamedTuple):
    """What holds in one place of the code.

    ``inside`` is False outside any unit, also in a ``follower()`` block there, which has a unit
    only to keep its follower in. ``thread`` is the owner of a unit that nobody
    opened.
    """

    unit: Unit | None = None
    inside: bool = False
    block_role: Role | None = None
    overrides: Mapping[str, Role] = MappingProxyType({})
    pinned: frozenset[str] = frozenset()
    thread: object | None = None

    @property
    def role(self) -> Role | None:
        """The role that a block asks for here, else the unit's."""
        return self.block_role or (None if self.unit is None else self.unit.role)

    def is_pinned(self, alias: str) -> bool:
        """Tell whether this unit's reads of the set go to the leader *alias*."""
        if self.unit is None or not self.inside:
            return False
        state = self.unit.state_of(alias)
        return state.written or state.pins > 0 or alias in self.pinned

    def pinning(self, alias: str) -> "Scope":
        if not self.inside or alias not in get_config().topology.by_leader:
            return self
        return self._replace(pinned=self.pinned | {alias})

    def overriding(self, alias: str, role: Role) -> "Scope":
        return self._replace(unit=self.unit or Unit(), overrides={**self.overrides, alias: role})


OUTSIDE = Scope()

current: ContextVar[Scope] = ContextVar("django_replicas.scope", default=OUTSIDE)
current_scope_here = current.get


def current_scope() -> Scope:
    """Return what holds here, for this thread or task."""
    scope = current.get()
    if scope.inside and scope.thread is None:
        return scope
    return _outside(scope)


def current_unit() -> Unit | None:
    """Return the unit of work that this thread or task works for, if there is one."""
    scope = current_scope()
    return scope.unit if scope.inside else None


def _outside(scope: Scope) -> Scope:
    if scope.unit is not None and not scope.inside:
        return scope
    if get_config().outside_units != "routed" or _may_be_shared_by_tasks():
        return OUTSIDE
    if scope.thread is _this_thread.name:
        return scope
    implicit = Scope(Unit(), inside=True, thread=_this_thread.name)
    current.set(implicit)
    return implicit


class _ThisThread(threading.local):
    """Its ``name`` is this thread's alone, while identifiers are given again to new threads."""

    def __init__(self) -> None:
        self.name = object()


_this_thread = _ThisThread()


def _may_be_shared_by_tasks() -> bool:
    waiting = getattr(SyncToAsync.threadlocal, "main_event_loop", None)
    return on_event_loop() or (waiting is not None and waiting.is_running())


# get_running_loop() raises where there is none, which costs more than a whole decision.
running_loop = asyncio._get_running_loop


def on_event_loop() -> bool:
    """Tell whether this thread is running an event loop now, so that I/O would block it."""
    return running_loop() is not None
