"""The names of django-pindb's root.

With its settings, ``db_for_write`` is the moment of a write (``WRITES_AT``), and threads without a
unit of work have one of their own (``OUTSIDE_UNITS``).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import django_replicas
from django_replicas import (
    follower,
    get_follower,
    get_newly_pinned,
    get_pinned,
    is_pinned,
    leader,
    pin,
    unpin_all,
    with_followers,
    with_leaders,
)
from django_replicas.compat import warn_of_removal
from django_replicas.conf import get_config, get_sound_config
from django_replicas.routers import GreedyPinRouter, ReplicaRouter, StrictPinRouter

from .exceptions import (
    ConfigValueError,
    PinDbConfigError,
    PinDbException,
    UnpinnedWriteException,
)

__all__ = [
    "GreedyPinDbRouter",
    "PinDbConfigError",
    "PinDbException",
    "StrictPinDbRouter",
    "UnpinnedWriteException",
    "get_newly_pinned",
    "get_pinned",
    "get_replica",
    "is_enabled",
    "is_newly_pinned",
    "is_pinned",
    "master",
    "pin",
    "populate_replicas",
    "unpin_all",
    "unpinned_replica",
    "with_masters",
    "with_replicas",
]

warn_of_removal("pindb")

# Whose names these are.
__version__ = (0, 1, 12)

P = ParamSpec("P")
R = TypeVar("R")

master = leader
unpinned_replica = follower
get_replica = get_follower


class _OfConfiguredSets(ReplicaRouter):
    def __init__(self) -> None:
        super().__init__()
        config = get_sound_config()
        if not (config.topology.sets or config.problems):
            raise ConfigValueError(
                "There are no replica sets. Define MASTER_DATABASES and DATABASE_SETS, or REPLICAS."
            )


class StrictPinDbRouter(_OfConfiguredSets, StrictPinRouter):
    """Reads followers until the set is pinned, and refuses writes until then."""


class GreedyPinDbRouter(_OfConfiguredSets, GreedyPinRouter):
    """Reads followers until the set is pinned, which the first write does."""


def populate_replicas(
    masters: Mapping[str, Mapping[str, Any]],
    replicas_overrides: Mapping[str, Sequence[Mapping[str, Any]]],
    unmanaged_default: bool = False,
) -> dict[str, dict[str, Any]]:
    """Make the entries of ``DATABASES`` for masters and for the replicas that differ from them.

    What is wrong raises ``PinDbConfigError``, which is a ``ValueError`` here.
    """
    try:
        return django_replicas.populate_replicas(masters, replicas_overrides, unmanaged_default)
    except PinDbConfigError as error:
        raise ConfigValueError(str(error)) from error


def is_enabled() -> bool:
    """Tell whether anything is routed (``PINDB_ENABLED``)."""
    return get_config().enabled


def is_newly_pinned(alias: str) -> bool:
    """Tell whether the user's next units will read from the leader because of this one."""
    return alias in get_newly_pinned()


def with_replicas(aliases: str | Iterable[str]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Read from followers during each call, whatever is pinned."""
    return with_followers(*_each(aliases))


def with_masters(aliases: str | Iterable[str]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Read and write on the leaders during each call; pins are left as they are."""
    return with_leaders(*_each(aliases))


def _each(aliases: str | Iterable[str]) -> Iterable[str]:
    return [aliases] if isinstance(aliases, str) else aliases
