"""The panel for Django Debug Toolbar: where a request's reads went, and why."""

import time
from typing import Any

from debug_toolbar.panels import Panel
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from .conf import get_config
from .followers import followers_of
from .marking import marks_to_come
from .marks import Marks, merge
from .reasons import Reason
from .scopes import current_unit
from .units import SetState, Unit

# A page of the toolbar is stored for each request, and read by people.
LONGEST_TRACE = 200


class ReplicasPanel(Panel):
    """Shows the unit of work around the toolbar: its reads, its sets and its marks.

    ``ReplicasMiddleware`` stands before ``DebugToolbarMiddleware``. Units that the request opens
    inside its own are not shown, nor what is read after the response was made.
    """

    is_async = True
    title = "Replicas"
    # The toolbar gives it no type but that of its default.
    nav_icon = "django_replicas/panel.svg"  # type: ignore[assignment]  # untyped there
    template = "django_replicas/panel.html"

    @property
    def nav_subtitle(self) -> str:
        stats = self.get_stats()  # type: ignore[no-untyped-call]  # untyped there
        if not stats.get("has_unit"):
            return "no unit of work"
        return f"{stats['by_followers']} of {stats['total']} reads by followers"

    def generate_stats(self, request: HttpRequest, response: HttpResponseBase) -> None:
        unit = current_unit()
        stats = {"has_unit": False} if unit is None else {"has_unit": True, **stats_of(unit)}
        self.record_stats(stats)  # type: ignore[no-untyped-call]  # untyped there


def stats_of(unit: Unit) -> dict[str, Any]:
    """Return what the panel shows of a unit, as plain data, because the toolbar stores it."""
    reads = _reads(unit)
    trace = list(unit.trace)
    return {
        "role": unit.role,
        "total": sum(each["reads"] for each in reads),
        "by_followers": sum(each["reads"] for each in reads if each["is_follower"]),
        "reads": reads,
        "sets": [_set(unit, leader) for leader in sorted(unit.sets)],
        "marks_in": _marks(unit.marks),
        "marks_out": _marks(marks_out(unit)),
        "is_traced": get_config().trace,
        "trace": [decision._asdict() for decision in trace[:LONGEST_TRACE]],
        "left_out": max(0, len(trace) - LONGEST_TRACE),
        "down": _down(),
    }


def marks_out(unit: Unit) -> Marks:
    """Return the marks that were handed on, and those that will be when the response has them."""
    return merge(unit.taken, marks_to_come(unit))


def _reads(unit: Unit) -> list[dict[str, Any]]:
    topology = get_config().topology
    return [
        {
            "alias": alias,
            "is_follower": topology.is_follower(alias),
            "is_leader": alias in topology.by_leader,
            "reason": reason,
            "reads": reads,
        }
        for (alias, reason), reads in sorted(unit.counts.items(), key=lambda item: -item[1])
    ]


def _set(unit: Unit, leader: str) -> dict[str, Any]:
    state = unit.sets[leader]
    return {
        "leader": leader,
        "follower": _follower(state),
        "why_none": "none was needed" if state.settled is None else "none was left",
        "written": state.written,
        "pinned": state.pins > 0,
    }


def _follower(state: SetState) -> str | None:
    if state.settled is None:
        return None
    alias, reason = state.settled
    return alias if reason is Reason.FOLLOWER else None


def _marks(marks: Marks) -> list[dict[str, Any]]:
    now = time.time()
    return [
        {
            "leader": leader,
            "seconds": round(mark.deadline - now, 1) if mark.is_before_deadline(now) else None,
            "position": None if mark.position is None else str(mark.position),
        }
        for leader, mark in sorted(marks.items())
    ]


def _down() -> list[dict[str, Any]]:
    return [
        {"alias": alias, "leader": each.leader, "seconds": round(seconds, 1)}
        for each in get_config().topology.sets
        for alias in each.followers
        if (seconds := followers_of(each).down_for(alias)) is not None
    ]
