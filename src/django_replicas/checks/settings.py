"""Is ``REPLICAS`` right: its keys and values, and the names in it."""

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, register
from django.db import connections

from django_replicas.conf import get_sound_config
from django_replicas.exceptions import ReplicasConfigError
from django_replicas.stores import store_named

from .messages import error


@register
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Report what is wrong in ``REPLICAS``, key by key."""
    return [*_wrong_values(), *_unknown_aliases(), *_unknown_models(), *_unimportable()]


def _wrong_values() -> Iterator[CheckMessage]:
    for problem in get_sound_config().problems:
        yield error("E001", problem, "All settings are described in the documentation.")


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
    for read in (lambda: config.delegates, lambda: store_named(config.mark_store)):
        try:
            read()
        except ReplicasConfigError as problem:
            yield error("E005", str(problem), "Correct its dotted path.")
