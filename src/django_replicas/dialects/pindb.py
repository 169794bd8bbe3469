"""The settings of django-pindb: ``MASTER_DATABASES``, ``DATABASE_SETS`` and ``PINDB_*``.

Its README has ``DATABASE_ROUTER_DELEGATE`` too, of which its code reads nothing; it counts here.
"""

from collections.abc import Mapping, Sized
from typing import Any

from .translation import Dialect, Draft, Given, Translation

SECONDS = "PINDB_PINNING_SECONDS"
DELEGATES, DELEGATE = "PINDB_DELEGATE_ROUTERS", "DATABASE_ROUTER_DELEGATE"
PLACES = {
    "PINDB_ENABLED": ("ENABLED",),
    "PINDB_PINNING_COOKIE": ("COOKIE", "NAME"),
}
DATABASES = ("MASTER_DATABASES", "DATABASE_SETS")


def translate(given: Given) -> Translation:
    """Say it as ``REPLICAS``; its own moments of pinning, and its units for threads, included."""
    draft = Draft()
    for name in DATABASES:
        if name not in given:
            draft.problem(f"{name} is missing: django-pindb's settings have both it and the other.")
        elif not isinstance(given[name], Mapping):
            draft.problem(
                f"{name} must be a dict with the alias of each leader, not {given[name]!r}."
            )
    masters, sets = (given.get(name) for name in DATABASES)
    draft.put(("SETS",), {}, "DATABASE_SETS")
    if isinstance(masters, Mapping) and isinstance(sets, Mapping):
        for alias in masters:
            _put_set(draft, alias, sets)
    draft.put(("BALANCE",), "round_robin")
    draft.put(("OUTSIDE_UNITS",), "routed").put(("WRITES_AT",), "routing")
    given = {"PINDB_PINNING_COOKIE": "pindb_pinned_set", **given}
    draft.put_given(given, PLACES)
    _put_delegates(draft, given)
    draft.put_pin_seconds(given, SECONDS)
    return draft.advise(_TO_LOWER_CASE).done()


_TO_LOWER_CASE = (
    "MASTER_DATABASES and DATABASE_SETS: django_replicas.populate_replicas() makes DATABASES of "
    "them as before. Rename both in lower case, as in `leaders` and `followers`, so that they are "
    "no settings any more."
)


def _put_set(draft: Draft, leader: str, sets: Mapping[str, Any]) -> None:
    """Put a leader's followers, by the aliases that ``populate_replicas`` gives to them."""
    followers = sets.get(leader)
    if leader not in sets:
        draft.problem(
            f"DATABASE_SETS has no entry for {leader!r}. Add its followers, or an empty list."
        )
    elif not isinstance(followers, Sized) or isinstance(followers, str | Mapping):
        draft.problem(
            f'DATABASE_SETS["{leader}"] must be a list with a dict of settings for each follower, '
            f"not {followers!r}."
        )
    else:
        aliases = [f"{leader}-{number}" for number in range(len(followers))]
        draft.put_followers(leader, aliases, "DATABASE_SETS")


def _put_delegates(draft: Draft, given: Given) -> None:
    many, one = given.get(DELEGATES), given.get(DELEGATE)
    if many is not None:
        draft.put(("DELEGATE_ROUTERS",), many, DELEGATES)
        if one is not None and _as_list(one) != _as_list(many):
            draft.problem(f"{DELEGATES} and {DELEGATE} differ: remove one of them.")
    elif one is not None:
        draft.put(("DELEGATE_ROUTERS",), _as_list(one), DELEGATE)


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


DIALECT = Dialect(
    "django-pindb",
    "pindb",
    translate,
    own=frozenset({*DATABASES, SECONDS, DELEGATES, DELEGATE, *PLACES}),
    prefix="PINDB_",
    paths={
        "pindb.StrictPinDbRouter": "django_replicas.routers.StrictPinRouter",
        "pindb.GreedyPinDbRouter": "django_replicas.routers.GreedyPinRouter",
        "pindb.middleware.PinDbMiddleware": "django_replicas.middleware.ReplicasMiddleware",
    },
)
