"""The settings of django-distributed.

Its README has ``FOLLOWER_DATABASES`` where its code reads ``REPLICA_DATABASES``; each counts.
"""

from typing import Any

from .translation import Dialect, Draft, Given, Translation

FOLLOWERS = ("FOLLOWER_DATABASES", "REPLICA_DATABASES")


def translate(given: Given) -> Translation:
    """Say it as ``REPLICAS``."""
    draft = Draft().put(("SETS",), {})
    leader = given.get("LEADER_DATABASE")
    named = [name for name in FOLLOWERS if name in given]
    if "LEADER_DATABASE" in given and not (isinstance(leader, str) and leader):
        draft.problem(f"LEADER_DATABASE must be a string that is not empty, not {leader!r}.")
    elif leader is not None:
        followers, name = (given[named[0]], named[0]) if named else ([], "LEADER_DATABASE")
        draft.put_followers(leader, followers, name)
    else:
        draft.problem("FOLLOWER_DATABASES needs LEADER_DATABASE, which is missing.")
    if len(named) > 1 and _as_list(given[named[0]]) != _as_list(given[named[1]]):
        draft.problem(f"{named[0]} and {named[1]} differ: remove one of them.")
    return draft.put_given(given, {"REPLICATION_LAG": ("REPLICATION_LAG",)}).done()


def _as_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


DIALECT = Dialect(
    "django-distributed",
    "django_distributed",
    translate,
    own=frozenset({"LEADER_DATABASE", "FOLLOWER_DATABASES"}),
    shared=frozenset({"REPLICA_DATABASES", "REPLICATION_LAG"}),
    paths={
        **{
            f"django_distributed.{module}SessionCachedRouter": (
                "django_replicas.routers.SessionPinnedRouter"
            )
            for module in ("", "router.", "router.cached_session_router.")
        },
        "django_distributed.session_engine": "django_replicas.sessions.write_behind",
    },
)
