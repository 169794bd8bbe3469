"""Is each request a unit of work, and does none of them write by habit."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.cache import caches
from django.core.cache.backends.db import DatabaseCache
from django.core.checks import CheckMessage, register
from django.db.models import Model
from django.utils.module_loading import import_string

from django_replicas.atomic_requests import AtomicInLeaderRole
from django_replicas.conf import Config, session_models
from django_replicas.exceptions import ReplicasConfigError
from django_replicas.middleware import ReplicasMiddleware
from django_replicas.routers import (
    LeaderFollowerRouter,
    ReplicaRouter,
    SessionPinnedRouter,
    StrictPinRouter,
)

from .members import config_in_force, leaders, settings_of
from .messages import warning
from .routing import router_of_ours


@register
def check_requests(**kwargs: Any) -> list[CheckMessage]:
    """Report what keeps requests from being units of work, and what writes in each of them."""
    config, ours = config_in_force(), router_of_ours()
    if config is None or ours is None:
        return []
    messages = [*_middleware(ours, config), *_idle_settings(config)]
    # Where the settings are wrong, nobody can say which models belong to which set.
    if not config.problems:
        messages += [*_saved_sessions(ours, config), *_database_caches(ours, config)]
    return messages


def _middleware(ours: ReplicaRouter, config: Config) -> Iterator[CheckMessage]:
    units, sessions = _places(ReplicasMiddleware), _places(SessionMiddleware)
    # django-crum's middleware makes units too, for the one router that looks there.
    by_crum = isinstance(ours, SessionPinnedRouter) and any(
        path.startswith("crum.") for path in settings.MIDDLEWARE
    )
    if not units and not ours.on_request_only and not by_crum:
        outcome = (
            "read the leader"
            if config.outside_units == "leader"
            else "what one of them writes is not known to the user's next one"
        )
        yield warning(
            "W006",
            f"MIDDLEWARE has no ReplicasMiddleware: requests are no units of work, and {outcome}.",
            'Put "django_replicas.middleware.ReplicasMiddleware" first.',
        )
    if units and sessions and sessions[0] < units[0]:
        yield warning(
            "W007",
            "In MIDDLEWARE, ReplicasMiddleware stands behind SessionMiddleware: sessions are saved "
            "outside the request's unit of work.",
            'Put "django_replicas.middleware.ReplicasMiddleware" first.',
        )


def _idle_settings(config: Config) -> Iterator[CheckMessage]:
    idle = [] if has_middleware() else list(_for_the_middleware(config))
    if idle:
        yield warning(
            "W017",
            f"MIDDLEWARE has no ReplicasMiddleware, so that these settings do nothing: "
            f"{', '.join(idle)}.",
            'Put "django_replicas.middleware.ReplicasMiddleware" first, or remove them.',
        )


def _for_the_middleware(config: Config) -> Iterator[str]:
    if config.view_overrides:
        yield 'REPLICAS["VIEW_OVERRIDES"]'
    if config.force_header is not None:
        yield 'REPLICAS["FORCE_HEADER"]'
    for alias in leaders():
        if isinstance(settings_of(alias)["ATOMIC_REQUESTS"], AtomicInLeaderRole):
            yield f'atomic_in_leader_role in DATABASES["{alias}"]["ATOMIC_REQUESTS"]'


def has_middleware() -> bool:
    """Tell whether ``MIDDLEWARE`` has ``ReplicasMiddleware``, or what extends it."""
    return bool(_places(ReplicasMiddleware))


def _places(wanted: type) -> list[int]:
    classes = map(_imported, settings.MIDDLEWARE)
    return [place for place, found in enumerate(classes) if _is_class_of(found, wanted)]


def _imported(path: str) -> Any:
    try:
        return import_string(path)
    except ImportError:
        return None


def _is_class_of(found: Any, wanted: type) -> bool:
    return isinstance(found, type) and issubclass(found, wanted)


def _saved_sessions(ours: ReplicaRouter, config: Config) -> Iterator[CheckMessage]:
    if not (settings.SESSION_SAVE_EVERY_REQUEST and _places(SessionMiddleware)):
        return
    for model in _ordinary_sessions(config):
        leader = _leader_of(model, ours, config)
        if leader is not None:
            yield warning(
                "W010",
                f"SESSION_SAVE_EVERY_REQUEST is on, and {model._meta.label} is not among "
                f"LEADER_MODELS, so that every request writes to {leader!r}, "
                f"{_what_happens(ours, config)}.",
                f'Add "{model._meta.label}" to REPLICAS["LEADER_MODELS"], or turn '
                "SESSION_SAVE_EVERY_REQUEST off.",
            )


def _ordinary_sessions(config: Config) -> list[type[Model]]:
    try:
        return [model for model in session_models() if model not in config.leader_models]
    except ReplicasConfigError:  # E003 and E005 say it.
        return []


def _database_caches(ours: ReplicaRouter, config: Config) -> Iterator[CheckMessage]:
    for name in settings.CACHES:
        cache = caches[name]
        if not isinstance(cache, DatabaseCache) or _is_for_notes_alone(name, ours, config):
            continue
        leader = _leader_of(cache.cache_model_class, ours, config)
        if leader is not None:
            yield warning(
                "W011",
                f"The cache {name!r} is kept in the database, so that filling it writes to "
                f"{leader!r}, {_what_happens(ours, config)}.",
                "Use another cache, or keep it in a database outside the sets, which a router of "
                'REPLICAS["DELEGATE_ROUTERS"] names for the app "django_cache".',
            )


def _is_for_notes_alone(name: str, ours: ReplicaRouter, config: Config) -> bool:
    # The router's own notes are no writes of a unit; Django's default cache holds other things.
    return isinstance(ours, SessionPinnedRouter) and name == config.recency_cache != "default"


def _leader_of(model: type[Model], ours: ReplicaRouter, config: Config) -> str | None:
    try:
        leader = config.topology.leader_of(ours.set_leader("db_for_write", model, {}))
    except ReplicasConfigError:  # E005 says it.
        return None
    return leader if leader in config.topology.by_leader else None


def _what_happens(ours: ReplicaRouter, config: Config) -> str:
    if isinstance(ours, StrictPinRouter):
        return "which is refused until something pins it"
    if isinstance(ours, LeaderFollowerRouter) and config.check_role_on_write:
        return "which is refused in requests that only read"
    if isinstance(ours, SessionPinnedRouter):
        return "and the rest of the request reads there, as do users without a session for a while"
    return "and all later reads go there"
