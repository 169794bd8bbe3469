"""Is a router of ours asked, and asked first."""

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, register
from django.db import router

from django_replicas.routers import ReplicaRouter

from .members import config_in_force
from .messages import warning


@register
def check_routing(**kwargs: Any) -> list[CheckMessage]:
    """Report what keeps reads and writes from being asked about in ``DATABASE_ROUTERS``."""
    return [] if config_in_force() is None else [*_no_router(), *_others_before()]


def router_of_ours() -> ReplicaRouter | None:
    """Return the first router of this package in ``DATABASE_ROUTERS``, if there is one."""
    return next((each for each in router.routers if isinstance(each, ReplicaRouter)), None)


def _no_router() -> Iterator[CheckMessage]:
    if router_of_ours() is None:
        yield warning(
            "W008",
            'REPLICAS["SETS"] has sets, but DATABASE_ROUTERS has no router of django-replicas: '
            "nothing is routed.",
            'Add one, for example "django_replicas.routers.GreedyPinRouter".',
        )


def _others_before() -> Iterator[CheckMessage]:
    ours = router_of_ours()
    if ours is None:
        return
    for other in router.routers[: router.routers.index(ours)]:
        if hasattr(other, "db_for_read") or hasattr(other, "db_for_write"):
            yield warning(
                "W009",
                f"The router {_name(other)} stands before {_name(ours)}: where it answers, leader "
                "and follower are not told apart.",
                'Move it to REPLICAS["DELEGATE_ROUTERS"], where it chooses the set, or behind.',
            )


def _name(each: object) -> str:
    return f"{type(each).__module__}.{type(each).__qualname__}"
