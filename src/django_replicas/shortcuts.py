"""The answer that a thread gave last, for as long as nothing that it hangs on has changed.

Most reads of a unit are answered as the one before. Asking every rule again costs three times as
much as asking whether anything has changed.
"""

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from django.db.backends.base.base import BaseDatabaseWrapper

from .conf import Config
from .units import Scope, Tally, Unit

if TYPE_CHECKING:
    from django.db.models import Model


class Nowhere:
    """Stands where there is no shortcut, or no follower, so that nobody has to ask for one."""

    scope = None
    connection = None


@dataclass(slots=True, eq=False)
class Shortcut:
    """A unit's settled answer and all that it hangs on; never shared by threads.

    It says nothing about reads with hints, about ``leader_models`` (``model`` is none of them) or
    inside a transaction of ``connection``, the leader's. Where a ``follower`` answers, it is by the
    same ``driver``'s connection: another one may lead to another server.
    """

    router: object
    config: Config
    scope: Scope
    unit: Unit
    version: object
    connection: BaseDatabaseWrapper
    model: "type[Model]"
    leader_models: "frozenset[type[Model]]"
    alias: str
    tally: Tally
    follower: BaseDatabaseWrapper | type[Nowhere]
    driver: object


class _ThisThread(threading.local):
    shortcut: Shortcut = cast(Shortcut, Nowhere)

    def forget(self) -> None:
        self.shortcut = cast(Shortcut, Nowhere)


this_thread = _ThisThread()
