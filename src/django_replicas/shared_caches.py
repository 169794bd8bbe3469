"""One of ``CACHES``, asked in the midst of a unit by a package that can do without it."""

import logging
from collections.abc import Callable
from typing import TypeVar

from django.core.cache import BaseCache, caches

from .aside import aside
from .liveness import Liveness
from .scopes import on_event_loop

logger = logging.getLogger("django_replicas")

T = TypeVar("T")

DOWNTIME = 10.0


class SharedCache:
    """A cache as this process reaches it; safe to share between threads.

    When it fails that is logged once, with the *consequence*, and it is left alone for a while.
    """

    def __init__(self, alias: str, consequence: str, liveness: Liveness | None = None) -> None:
        self._alias = alias
        self._consequence = consequence
        self._liveness = liveness or Liveness(DOWNTIME)

    def attempt(self, work: Callable[[BaseCache], T]) -> T | None:
        """Return what *work* does with the cache, None where it fails or must not be asked."""
        # What would block an event loop is not asked there; that says nothing about the cache.
        if on_event_loop() or not self._liveness.may_try(self._alias):
            return None
        try:
            # A cache in the database asks the router where to; it must neither ask back, nor pin.
            with aside():
                result = work(caches[self._alias])
        except Exception as error:  # Each cache raises what its driver raises.
            self._went_down(error)
            return None
        if self._liveness.mark_up(self._alias):
            logger.info("The cache %r is back.", self._alias)
        return result

    def _went_down(self, error: Exception) -> None:
        if self._liveness.mark_down(self._alias):
            logger.error(
                "The cache %r fails, so that %s: %r", self._alias, self._consequence, error
            )
