"""Whether a leader takes writes: asked when somebody wants to know, remembered if it does not."""

import logging
import math
import time
from collections.abc import Callable

from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.core.signals import setting_changed
from django.db import InterfaceError, OperationalError

from .conf import SETTINGS, Config, get_config
from .deadlines import Deadline
from .liveness import Liveness
from .own_connections import connection_of_its_own
from .scopes import on_event_loop
from .topology import ReplicaSet
from .writability import refuses_writes

logger = logging.getLogger("django_replicas")

# Long enough that busy sites ask once for hundreds of requests.
SECONDS_OF_GOOD = 1.0
UNREACHABLE = (OperationalError, InterfaceError, TimeoutError)


class LeaderWatch:
    """Knows for one process whether the leader *alias* takes writes.

    It is asked over a connection of its own, by one thread at a time, with a deadline. One that
    cannot be reached is tried again at once, ``READ_ONLY_TRIES`` times in all. One that takes no
    writes is left alone for the downtime; that it does take them is believed for a second.
    """

    def __init__(
        self, alias: str, config: Config, clock: Callable[[], float] = time.monotonic
    ) -> None:
        replica_set = config.topology.by_leader.get(alias) or ReplicaSet(alias, ())
        self._alias = alias
        self._tries = config.read_only_tries
        self._timeout = config.read_only_timeout
        self._clock = clock
        self._good_until = -math.inf
        self._liveness = Liveness(config.read_only_downtime or replica_set.downtime, clock)
        self._question = Deadline(self._ask)

    def is_read_only(self) -> bool:
        if self._clock() < self._good_until:
            return False
        if not self._liveness.may_try(self._alias):
            return True
        why_not = self._why_not()
        if why_not is None:
            self._good_until = self._clock() + SECONDS_OF_GOOD
            if self._liveness.mark_up(self._alias):
                logger.info("The leader %r takes writes again.", self._alias)
            return False
        if self._liveness.mark_down(self._alias):
            logger.error("The leader %r takes no writes: %s", self._alias, why_not)
        return True

    def _why_not(self) -> str | None:
        why_not = ""
        for _ in range(self._tries):
            try:
                return "it is read-only" if self._question.result(self._timeout) else None
            except UNREACHABLE as error:
                why_not = str(error) or f"no answer within {self._timeout:g} seconds"
        return why_not

    def _ask(self) -> bool:
        with connection_of_its_own(self._alias, self._timeout) as connection:
            return refuses_writes(connection)


_watches: dict[str, LeaderWatch] = {}


def is_read_only(alias: str) -> bool:
    """Tell whether the leader *alias* is unreachable, in recovery or set to read only.

    Waits for it no longer than ``READ_ONLY_TIMEOUT`` for each of ``READ_ONLY_TRIES``. Errors that
    do not mean that it cannot be reached are raised.
    """
    watch = _watches.get(alias)
    if watch is None:
        watch = _watches.setdefault(alias, LeaderWatch(alias, get_config()))
    return watch.is_read_only()


ais_read_only = sync_to_async(is_read_only, thread_sensitive=False)


class LazyAnswer:
    """What one request is told, from when it first asks to its end."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._answer: bool | None = None

    def get(self) -> bool:
        """Return the answer. Raises ``SynchronousOnlyOperation`` where that would block a loop."""
        if self._answer is None:
            if on_event_loop():
                raise SynchronousOnlyOperation(
                    "Whether the service is read-only is asked of a server. On an event loop "
                    "call `await request.aservice_is_readonly()` first."
                )
            self._answer = is_read_only(self._alias)
        return self._answer

    async def aget(self) -> bool:
        if self._answer is None:
            self._answer = await ais_read_only(self._alias)
        return self._answer


def forget_leaders() -> None:
    """Take every leader for one that was never asked."""
    _watches.clear()


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting in {*SETTINGS, "DATABASES"}:
        forget_leaders()


setting_changed.connect(_forget, dispatch_uid="django_replicas.readonly")
