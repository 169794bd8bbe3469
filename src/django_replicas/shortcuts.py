"""The answer that a router gave a thread last, for as long as nothing that it hangs on has changed.

Most reads of a unit are answered as the one before. Asking every rule again costs many times as
much as asking whether anything has changed.
"""

import threading
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING

from django.db.backends.base.base import BaseDatabaseWrapper

from . import conf
from .units import Scope, Tally, Unit

if TYPE_CHECKING:
    from django.db.models import Model


class Shortcut:
    """The last settled answer of one router in one thread, and all that it hangs on.

    It holds in ``scope``, which is None where there is no such answer, or no longer. It says
    nothing about reads with hints, about ``leader_models`` (``model`` is none of them) or inside a
    transaction of ``connection``, the leader's. The ``reader`` is the connection to ``alias``, by
    the same ``driver``'s connection: another one may lead to another server.
    """

    __slots__ = (
        "alias",
        "connection",
        "driver",
        "leader_models",
        "model",
        "reader",
        "scope",
        "tally",
    )

    alias: str
    connection: BaseDatabaseWrapper
    driver: object
    leader_models: "frozenset[type[Model]]"
    model: "type[Model]"
    reader: BaseDatabaseWrapper
    scope: Scope | None
    tally: Tally

    def __init__(self) -> None:
        self.scope = None

    def lead_to(
        self,
        alias: str,
        tally: Tally,
        reader: BaseDatabaseWrapper,
        connection: BaseDatabaseWrapper,
        model: "type[Model]",
        leader_models: "frozenset[type[Model]]",
    ) -> None:
        """Be about another answer, which does not hold yet."""
        self.scope = None
        self.alias, self.tally = alias, tally
        self.reader, self.driver = reader, reader.connection
        self.connection = connection
        self.model, self.leader_models = model, leader_models

    def hold_in(self, scope: Scope, unit: Unit, version: object) -> None:
        """Hold until *unit* changes, unless it has since *version*."""
        unit.hang_on(self.forget)
        self.scope = scope
        if unit.version is not version:
            self.forget()

    def forget(self) -> None:
        """Hold no longer, whichever thread says so."""
        self.scope = None


class _OfThisThread(threading.local):
    def __init__(self) -> None:
        self.shortcut = Shortcut()


class TakesShortcuts:
    """A router that remembers what it answered last, for each thread."""

    def __init__(self) -> None:
        self.forget_shortcuts()
        _takers.append(weakref.ref(self, _takers.remove))

    @property
    def shortcut(self) -> Shortcut:
        """This thread's."""
        return self._of_this_thread.shortcut

    def forget_shortcuts(self) -> None:
        """Forget those of all threads; what is being found out meanwhile is not remembered."""
        self._of_this_thread = _OfThisThread()


_takers: "list[weakref.ref[TakesShortcuts]]" = []


def forget_here() -> None:
    """Have this thread ask the rules again."""
    for router in _routers():
        router.shortcut.forget()


def forget_everywhere() -> None:
    """Have every thread ask the rules again."""
    for router in _routers():
        router.forget_shortcuts()


def _routers() -> Iterator[TakesShortcuts]:
    return (router for taker in tuple(_takers) if (router := taker()) is not None)


conf.hang_on(forget_everywhere)
