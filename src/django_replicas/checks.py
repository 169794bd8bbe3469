"""System checks of the ``REPLICAS`` setting."""

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error, register
from django.db import connections

from .conf import get_sound_config


@register
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Report what is wrong in ``REPLICAS``, key by key."""
    return [*_wrong_values(), *_unknown_aliases()]


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
