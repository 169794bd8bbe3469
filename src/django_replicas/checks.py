"""System checks of the ``REPLICAS`` setting."""

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, Warning, register
from django.db import connections

from .conf import get_sound_config
from .exceptions import ReplicasConfigError
from .stores import store_named


@register
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Report what is wrong in ``REPLICAS``, key by key."""
    return [
        *_wrong_values(),
        *_unknown_aliases(),
        *_unknown_models(),
        *_unimportable(),
        *_atomic_requests(),
        *_atomic_followers(),
    ]


def _wrong_values() -> Iterator[CheckMessage]:
    for problem in get_sound_config().problems:
        yield Error(
            problem,
            hint="All settings are described in the documentation under “Settings”.",
            id="django_replicas.E001",
        )


def _unknown_aliases() -> Iterator[CheckMessage]:
    for replica_set in get_sound_config().topology.sets:
        for alias in (replica_set.leader, *replica_set.followers):
            if alias not in connections.settings:
                yield Error(
                    f'REPLICAS["SETS"] names {alias!r}, which is not in DATABASES.',
                    hint="Add it to DATABASES, or remove it from the set of "
                    f"{replica_set.leader!r}.",
                    id="django_replicas.E002",
                )


def _unknown_models() -> Iterator[CheckMessage]:
    installed = {model._meta.label_lower for model in apps.get_models()}
    for label in get_sound_config().leader_model_labels or ():
        if label.lower() not in installed:
            yield Error(
                f'REPLICAS["LEADER_MODELS"] names {label!r}, which is no installed model.',
                hint="Correct it, or remove it.",
                id="django_replicas.E003",
            )


def _unimportable() -> Iterator[CheckMessage]:
    config = get_sound_config()
    for read in (lambda: config.delegates, lambda: store_named(config.mark_store)):
        try:
            read()
        except ReplicasConfigError as error:
            yield Error(str(error), id="django_replicas.E004")


def _atomic_requests() -> Iterator[CheckMessage]:
    for alias in get_sound_config().topology.by_leader:
        if connections.settings.get(alias, {}).get("ATOMIC_REQUESTS"):
            yield Warning(
                f"ATOMIC_REQUESTS is on for {alias!r}, so that every view reads the leader.",
                hint="Turn it off and open transactions with atomic() where there are writes.",
                id="django_replicas.W001",
            )


def _atomic_followers() -> Iterator[CheckMessage]:
    for replica_set in get_sound_config().topology.sets:
        for alias in replica_set.followers:
            if connections.settings.get(alias, {}).get("ATOMIC_REQUESTS"):
                yield Error(
                    f"ATOMIC_REQUESTS is on for the follower {alias!r}: every request would open a "
                    "connection to it, and fail while it is down.",
                    hint="Turn it off; followers are only read.",
                    id="django_replicas.E005",
                )
