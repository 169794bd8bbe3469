"""The settings of django_replicated: every ``REPLICATED_*``."""

from collections.abc import Collection
from typing import Any

from .translation import Dialect, Draft, Given, Translation

PLACES = {
    "REPLICATED_DATABASE_DOWNTIME": ("DOWNTIME",),
    "REPLICATED_FORCE_MASTER_COOKIE_NAME": ("COOKIE", "NAME"),
    "REPLICATED_CHECK_STATE_ON_WRITE": ("CHECK_ROLE_ON_WRITE",),
    "REPLICATED_VIEWS_OVERRIDES": ("VIEW_OVERRIDES",),
    "REPLICATED_READ_ONLY_DOWNTIME": ("READ_ONLY_DOWNTIME",),
    "REPLICATED_READ_ONLY_TRIES": ("READ_ONLY_TRIES",),
}
# What its own settings module says of those that mean something here.
DEFAULTS = {
    "REPLICATED_DATABASE_SLAVES": [],
    "REPLICATED_DATABASE_DOWNTIME": 60,
    "REPLICATED_FORCE_MASTER_COOKIE_MAX_AGE": 5,
    "REPLICATED_FORCE_MASTER_COOKIE_NAME": "just_updated",
    "REPLICATED_CHECK_STATE_ON_WRITE": True,
    "REPLICATED_VIEWS_OVERRIDES": {},
    "REPLICATED_READ_ONLY_DOWNTIME": 20,
    "REPLICATED_READ_ONLY_TRIES": 1,
}
REDIRECTS = {302, 303}
OTHERS = {
    "REPLICATED_FORCE_STATE_HEADER",
    "REPLICATED_CACHE_BACKEND",
    "REPLICATED_FORCE_MASTER_COOKIE_STATUS_CODES",
    "REPLICATED_MANAGE_ATOMIC_REQUESTS",
}


def translate(given: Given) -> Translation:
    """Say it as ``REPLICAS``: ``default`` leads, and what is not given is as it always was."""
    given = {**DEFAULTS, **given}
    draft = Draft()
    slaves = given["REPLICATED_DATABASE_SLAVES"] or []
    draft.put_followers("default", slaves, "REPLICATED_DATABASE_SLAVES")
    if not given["REPLICATED_VIEWS_OVERRIDES"]:
        del given["REPLICATED_VIEWS_OVERRIDES"]
    draft.put_pin_seconds(given, "REPLICATED_FORCE_MASTER_COOKIE_MAX_AGE")
    draft.put_given(given, PLACES)
    if given["REPLICATED_CHECK_STATE_ON_WRITE"] is True:
        # What names the master by using() was never checked.
        draft.put(("CHECK_ROLE_ON_WRITE",), "routing", "REPLICATED_CHECK_STATE_ON_WRITE")
    header = given.get("REPLICATED_FORCE_STATE_HEADER")
    if header is not None:
        draft.put(("FORCE_HEADER",), _header(header), "REPLICATED_FORCE_STATE_HEADER")
    if given.get("REPLICATED_CACHE_BACKEND") is not None:
        draft.advise(
            "REPLICATED_CACHE_BACKEND has no successor: which followers are down is known in each "
            "process, and no cache is asked."
        )
    codes = given.get("REPLICATED_FORCE_MASTER_COOKIE_STATUS_CODES", REDIRECTS)
    if not isinstance(codes, Collection) or {*map(repr, codes)} != {*map(repr, REDIRECTS)}:
        draft.advise(
            "REPLICATED_FORCE_MASTER_COOKIE_STATUS_CODES has no successor: who wrote is kept on "
            "the leader, whatever the status of the response."
        )
    if given.get("REPLICATED_MANAGE_ATOMIC_REQUESTS"):
        draft.advise(
            "REPLICATED_MANAGE_ATOMIC_REQUESTS: give the leader's entry in DATABASES "
            '"ATOMIC_REQUESTS": django_replicas.atomic_in_leader_role, and its followers none.'
        )
    return draft.done()


def _header(key: Any) -> Any:
    """Return a header's name for its key in ``request.META``."""
    is_key = isinstance(key, str) and key.startswith("HTTP_")
    return key.removeprefix("HTTP_").replace("_", "-").title() if is_key else key


DIALECT = Dialect(
    "django_replicated",
    "django_replicated",
    translate,
    own=frozenset(DEFAULTS) | OTHERS,
    prefix="REPLICATED_",
    paths={
        "django_replicated.router.ReplicationRouter": (
            "django_replicas.routers.LeaderFollowerRouter"
        ),
        "django_replicated.middleware.ReplicationMiddleware": (
            "django_replicas.middleware.ReplicasMiddleware"
        ),
        "django_replicated.middleware.ReadOnlyMiddleware": (
            "django_replicas.middleware.ReadOnlyMiddleware"
        ),
    },
)
