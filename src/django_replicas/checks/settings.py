"""Is ``REPLICAS`` right: its keys and values, and the names in it."""

from collections.abc import Callable, Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.cache import BaseCache, caches
from django.core.checks import CheckMessage, register
from django.db import connections

from django_replicas.clients import client_key_named
from django_replicas.conf import get_sound_config, session_models
from django_replicas.dialects.pasting import COMPAT, paths_to_change
from django_replicas.exceptions import ReplicasConfigError
from django_replicas.routers import SessionPinnedRouter
from django_replicas.stores import store_named

from .members import config_in_force
from .messages import error, warning
from .routing import router_of_ours


@register
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Report what is wrong in ``REPLICAS``, key by key."""
    return [
        *_wrong_values(),
        *_conflict(),
        *_unknown_aliases(),
        *_unknown_models(),
        *_unimportable(),
        *_recency_cache(),
        *_mark_cache(),
        *_paths_that_go(),
    ]


def _wrong_values() -> Iterator[CheckMessage]:
    config = get_sound_config()
    for problem in config.problems:
        if problem != config.conflict:
            yield error("E001", problem, "All settings are described in the documentation.")


def _conflict() -> Iterator[CheckMessage]:
    conflict = get_sound_config().conflict
    if conflict is not None:
        yield error(
            "E007",
            conflict,
            "Keep what is meant and remove the other. With the settings of one package alone, "
            "`manage.py replicas settings` prints what REPLICAS would be.",
        )


def _unknown_aliases() -> Iterator[CheckMessage]:
    for replica_set in get_sound_config().topology.sets:
        for alias in (replica_set.leader, *replica_set.followers):
            if alias not in connections.settings:
                yield error(
                    "E002",
                    f'REPLICAS["SETS"] names {alias!r}, which is not in DATABASES.',
                    f"Add it to DATABASES, or remove it from the set of {replica_set.leader!r}.",
                )


def _unknown_models() -> Iterator[CheckMessage]:
    installed = {model._meta.label_lower for model in apps.get_models()}
    for label in get_sound_config().leader_model_labels or ():
        if label.lower() not in installed:
            yield error(
                "E003",
                f'REPLICAS["LEADER_MODELS"] names {label!r}, which is no installed model.',
                "Correct it, or remove it.",
            )


def _unimportable() -> Iterator[CheckMessage]:
    config = get_sound_config()
    named: list[Callable[[], Any]] = [
        lambda: config.delegates,
        lambda: store_named(config.mark_store),
        lambda: client_key_named(config.mark_key),
    ]
    if config.leader_model_labels is None:
        named.append(session_models)
    for read in named:
        try:
            read()
        except ReplicasConfigError as problem:
            yield error("E005", str(problem), "Correct its dotted path.")


UNSHARED = ("django.core.cache.backends.locmem.", "django.core.cache.backends.dummy.")


def _recency_cache() -> Iterator[CheckMessage]:
    config = config_in_force()
    if config is None or not isinstance(router_of_ours(), SessionPinnedRouter):
        return
    name = config.recency_cache
    if name not in settings.CACHES:
        yield _no_cache("RECENCY_CACHE", name)
    elif _is_unshared(name):
        yield warning(
            "W015",
            f"SessionPinnedRouter notes writes in the cache {name!r}, which other processes do "
            "not see: they may show users a state from before their own writes.",
            _to_share(name, "RECENCY_CACHE"),
        )


def _mark_cache() -> Iterator[CheckMessage]:
    config = config_in_force()
    if config is None or config.mark_store != "cache":
        return
    name = config.mark_cache
    if name not in settings.CACHES:
        yield _no_cache("MARK_CACHE", name)
    elif _is_unshared(name):
        yield warning(
            "W015",
            f"Marks are kept in the cache {name!r}, which other processes do not see: they may "
            "show users a state from before their own writes.",
            _to_share(name, "MARK_CACHE"),
        )
    elif type(caches[name]).incr is BaseCache.incr:
        yield warning(
            "W018",
            f"Marks are kept in the cache {name!r}, which counts in two steps: of two responses "
            "that end at once, the mark of one may be lost.",
            'Name a cache on memcached or Redis in REPLICAS["MARK_CACHE"].',
        )


def _paths_that_go() -> Iterator[CheckMessage]:
    # The warning at the import is attributed to importlib, so that nobody is shown it.
    for where, path, ours in paths_to_change(settings):
        if path.startswith(COMPAT):
            yield warning(
                "W019",
                f"{where} names {path!r}, which goes with django-replicas 2.0.",
                f"Write {ours!r} in its place.",
            )


def _no_cache(key: str, name: str) -> CheckMessage:
    return error(
        "E006",
        f'REPLICAS["{key}"] names {name!r}, which is not in CACHES.',
        "Add it to CACHES, or name one that is there.",
    )


def _to_share(name: str, key: str) -> str:
    return (
        f'Give CACHES["{name}"] a backend that all processes share, or name a cache that has one '
        f'in REPLICAS["{key}"].'
    )


def _is_unshared(name: str) -> bool:
    backend: str = settings.CACHES[name].get("BACKEND", "")
    return backend.startswith(UNSHARED)
