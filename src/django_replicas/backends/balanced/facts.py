"""What a connection has found out about its server, which is not true of another peer's."""

from functools import cache, cached_property
from typing import Any

from django.utils.functional import cached_property as djangos_cached_property

Facts = dict[str, dict[str, Any]]

# Where Django keeps what it has asked a server once: its version, say, and what follows from it.
_HOLDERS = ("features", "introspection", "ops")


def facts_taken_from(connection: Any) -> Facts:
    """Take from a connection what it keeps of its server, so that it is asked about anew."""
    facts = {"": _taken(connection)}
    for holder in _HOLDERS:
        facts[holder] = _taken(getattr(connection, holder))
    return facts


def give_back(connection: Any, facts: Facts) -> None:
    """Let a connection know again what was taken from it."""
    for holder, values in facts.items():
        vars(getattr(connection, holder) if holder else connection).update(values)


def _taken(holder: Any) -> dict[str, Any]:
    kept = vars(holder)
    kind: Any = type(holder)
    return {name: kept.pop(name) for name in _cached_names(kind).intersection(kept)}


@cache
def _cached_names(kind: Any) -> frozenset[str]:
    return frozenset(
        name
        for each in kind.__mro__
        for name, value in vars(each).items()
        if isinstance(value, (cached_property, djangos_cached_property))
    )
