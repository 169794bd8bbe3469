"""The settings of django-multidb-router (``multidb``): ``REPLICA_DATABASES`` and ``MULTIDB_*``."""

from typing import Any

from .translation import Dialect, Draft, Given, Translation

SECONDS = "MULTIDB_PINNING_SECONDS"
SAMESITE = "MULTIDB_PINNING_COOKIE_SAMESITE"
PLACES = {
    "MULTIDB_PINNING_COOKIE": ("COOKIE", "NAME"),
    "MULTIDB_PINNING_COOKIE_HTTPONLY": ("COOKIE", "HTTPONLY"),
    SAMESITE: ("COOKIE", "SAMESITE"),
    "MULTIDB_PINNING_COOKIE_SECURE": ("COOKIE", "SECURE"),
}
# The second is what releases before 0.8 called the first.
REPLICAS = ("REPLICA_DATABASES", "SLAVE_DATABASES")


def translate(given: Given) -> Translation:
    """Say it as ``REPLICAS``: ``default`` leads, and threads without a request read followers."""
    draft = Draft()
    name = next((name for name in REPLICAS if name in given), REPLICAS[0])
    draft.put_followers("default", given.get(name, []), name)
    draft.put(("BALANCE",), "round_robin").put(("OUTSIDE_UNITS",), "routed")
    draft.put_pin_seconds(given, SECONDS)
    given = {"MULTIDB_PINNING_COOKIE": "multidb_pin_writes", **given}
    if SAMESITE in given:
        given[SAMESITE] = _samesite(given[SAMESITE])
    draft.put_given(given, PLACES)
    return draft.advise(
        '"OUTSIDE_UNITS": "routed" has commands and shells read followers, as they did. Without '
        "it they read the leader, which data migrations are safer with."
    ).done()


def _samesite(value: Any) -> Any:
    """Return it as Django takes it: in any case, and for none where it is empty."""
    known = {each.lower(): each for each in ("Lax", "Strict", "None")}
    return (known.get(value.lower(), value) if isinstance(value, str) else value) or None


DIALECT = Dialect(
    "django-multidb-router",
    "multidb",
    translate,
    own=frozenset({"SLAVE_DATABASES", SECONDS, *PLACES}),
    shared=frozenset({"REPLICA_DATABASES"}),
    prefix="MULTIDB_",
    paths={
        "multidb.ReplicaRouter": "django_replicas.routers.GreedyPinRouter",
        "multidb.PinningReplicaRouter": "django_replicas.routers.GreedyPinRouter",
        "multidb.MasterSlaveRouter": "django_replicas.routers.GreedyPinRouter",
        "multidb.PinningMasterSlaveRouter": "django_replicas.routers.GreedyPinRouter",
        "multidb.middleware.PinningRouterMiddleware": (
            "django_replicas.middleware.ReplicasMiddleware"
        ),
    },
)
