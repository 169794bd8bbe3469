"""The members of the sets, as far as ``DATABASES`` has them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from django_replicas.conf import Config, get_sound_config


class Pair(NamedTuple):
    """The aliases of a follower and of its leader."""

    follower: str
    leader: str


def config_in_force() -> Config | None:
    """Return what is configured, None where there is nothing to route or routing is disabled."""
    config = get_sound_config()
    return config if config.enabled and config.topology.sets else None


def leaders() -> Iterator[str]:
    """Yield the leaders that ``DATABASES`` has, while routing is enabled."""
    config = config_in_force()
    if config is not None:
        yield from filter(connections.settings.__contains__, config.topology.by_leader)


def pairs() -> Iterator[Pair]:
    """Yield every follower and its leader that ``DATABASES`` has, while routing is enabled."""
    topology = get_sound_config().topology
    for leader in leaders():
        for follower in topology.by_leader[leader].followers:
            if follower in connections.settings:
                yield Pair(follower, leader)


def settings_of(alias: str) -> dict[str, Any]:
    """Return the alias's entry in ``DATABASES``, Django's defaults filled in."""
    settings: dict[str, Any] = connections.settings[alias]
    return settings


def options_of(alias: str) -> dict[str, Any]:
    """Return the options that its driver is given."""
    options: dict[str, Any] = settings_of(alias)["OPTIONS"]
    return options


def vendor_of(alias: str) -> str | None:
    """Return Django's name for the kind of database, None where its engine cannot be loaded."""
    try:
        return str(connections[alias].vendor)
    except ImproperlyConfigured:
        return None
