"""The answer that a router gave a thread last, for as long as nothing that it hangs on has changed.

Most reads of a unit are answered as the one before. Asking every rule again costs many times as
much as asking whether anything has changed.
"""

import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

from django.db.backends.base.base import BaseDatabaseWrapper

from . import conf
from .scopes import Scope
from .units import Tally, Version

if TYPE_CHECKING:
    from django.db.models import Model


class Nowhere:
    """Stands where there is no shortcut, so that nobody has to ask for one."""

    scope = None


@dataclass(slots=True, eq=False)
class Shortcut:
    """A unit's settled answer and all that it hangs on; never shared by routers or threads.

    It says nothing about reads with hints, about ``leader_models`` (``model`` is none of them) or
    inside a transaction of ``connection``, the leader's. The ``reader`` is the connection to
    ``alias``, by the same ``driver``'s connection: another one may lead to another server.
    """

    scope: Scope
    version: Version
    connection: BaseDatabaseWrapper
    model: "type[Model]"
    leader_models: "frozenset[type[Model]]"
    alias: str
    tally: Tally
    reader: BaseDatabaseWrapper
    driver: object


class _OfThisThread(threading.local):
    shortcut: Shortcut = cast(Shortcut, Nowhere)


class TakesShortcuts:
    """A router that remembers what it answered last, for each thread; its copies do for themselves.

    All of it is made before ``__init__``, which a subclass may have for itself.
    """

    _of_this_thread: _OfThisThread

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        router = super().__new__(cls)
        router._of_this_thread = _OfThisThread()
        _routers.append(weakref.ref(router, _routers.remove))
        return router

    def __getstate__(self) -> dict[str, Any]:
        return {key: each for key, each in vars(self).items() if key != "_of_this_thread"}


_routers: list[weakref.ref[TakesShortcuts]] = []


def forget_here() -> None:
    """Have this thread ask the rules again, and let go of what its shortcuts hang on."""
    for router in _living():
        router._of_this_thread.shortcut = cast(Shortcut, Nowhere)


def forget_everywhere() -> None:
    """Have every thread ask the rules again; what is found out meanwhile is not remembered."""
    for router in _living():
        router._of_this_thread = _OfThisThread()


def _living() -> Iterator[TakesShortcuts]:
    return (router for each in tuple(_routers) if (router := each()) is not None)


conf.hang_on(forget_everywhere)
