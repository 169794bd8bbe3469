"""A unit of work around one job of a worker, and the marks that travel with the job's message.

The side that queues a job puts ``marks_to_send()`` into the message, under ``HEADER`` where it has
headers. The worker does the job in a ``Job``, made with what it found there.
"""

import time
from typing import Any

from django.db import router

from .conf import get_config
from .leaders import LeaderObserver
from .marking import marks_so_far
from .marks import merge
from .origins import unit_of_other_middleware
from .pinning import UnitOfWork
from .scopes import OUTSIDE, Scope, current_unit
from .stores import as_text, marks_in
from .units import Role, Unit, lasting

HEADER = "django_replicas_marks"


def marks_to_send() -> str:
    """Return what a job that is queued now must see, as text for its message.

    Empty where there is nothing to carry, and outside any unit of work. The unit's own response
    carries its marks all the same.
    """
    unit = current_unit() or unit_of_other_middleware()
    if unit is None or not get_config().enabled:
        return ""
    observers = [each for each in router.routers if isinstance(each, LeaderObserver)]
    behind = {alias: lasting(alias) for each in observers for alias in each.sets_behind(unit)}
    return as_text(merge(marks_so_far(unit), behind), time.time())


class Job(UnitOfWork):
    """A ``with`` block around one job: it has what its message brought, and nothing else.

    *sent* is what ``marks_to_send`` returned where the job was queued; whatever cannot be that is
    dropped in silence. *role* is "leader", "follower" or None. What the worker or an earlier job
    has left behind in this thread does not hold inside, unless the job is done *inline*, in the
    midst of the unit that queued it: then it is an ordinary unit inside that one.
    """

    def __init__(self, sent: Any = None, *, role: str | None = None, inline: bool = False) -> None:
        asked = None if role is None else Role(role)
        super().__init__(asked, Unit(lambda: marks_in(sent, time.time()), role=asked))
        self._inline = inline

    def _inside(self, outer: Scope) -> Scope:
        return super()._inside(outer if self._inline else OUTSIDE)

    def _unit_around(self, outer: Scope) -> Unit | None:
        return super()._unit_around(outer) if self._inline else None
